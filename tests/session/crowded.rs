//! A disk without room is the target's trouble: it is looked at by each poll, and nothing is fetched for it alone.

use crate::support::dialogue::{honest, mail};
use crate::support::maildrop::{Settings, What};
use crate::support::mounted::Mounted;

#[test]
fn a_message_for_which_there_was_no_room_is_fetched_by_the_first_poll_that_finds_some() {
    let (server, home) = honest(Settings::default(), "keep: none");
    std::fs::create_dir(home.path("Mail")).unwrap();
    let Some(disk) = Mounted::tmpfs(home.path("Mail"), "2m") else { return };
    home.must(&["sync"], 0);
    let filler = home.path("Mail/filler");
    std::fs::write(&filler, vec![b'x'; 1600 << 10]).unwrap();
    let large = [mail(0), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
    server.put("large", large);
    server.put("small", mail(1));
    assert!(home.must(&["sync"], 75).stderr.contains("large: held: cannot"));
    assert_eq!(home.maildir("Mail").len(), 1);
    let asked = || server.count(|what| matches!(what, What::Command(line) if line.starts_with("RETR")));
    let before = asked();
    for _ in 0..3 {
        assert_eq!(home.must(&["sync"], 75).stderr, "");
    }
    assert_eq!(asked(), before, "something was fetched for a disk that is full");
    assert!(home.must(&["held", "list", "test"], 0).stdout.contains("large: cannot"));
    std::fs::remove_file(&filler).unwrap();
    home.must(&["sync"], 0);
    assert_eq!((home.maildir("Mail").len(), server.uids().len()), (2, 0));
    drop(disk);
}
