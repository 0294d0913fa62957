//! What the maildir target keeps beside the contract of all targets: names, places, and never twice.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::sink::{assert_tmp_is_empty, deliver, fill, id, maildir, maildir_files, names, open, scratch};
#[cfg(target_os = "linux")]
use crate::system::{Op, Watch};
use postrider::testing::config::Target;
use postrider::testing::delivery::{Access, Outcome, Sink};
use postrider::testing::disk::Disk;

#[tokio::test]
async fn a_maildir_is_private_and_its_names_tell_size_and_order() {
    let dir = scratch();
    let target = Target::Maildir(dir.path().join("a/b/Mail"));
    let sink = open(&target, &Disk::new()).await.unwrap();
    let bodies: Vec<Vec<u8>> = (0..50usize).map(|n| vec![b'x'; n * 13]).collect();
    let uids: Vec<String> = (0..50).map(|n| format!("uid {n}")).collect();
    let batch: Vec<(&str, &[u8])> =
        uids.iter().map(String::as_str).zip(bodies.iter().map(Vec::as_slice)).collect();
    deliver(&sink, &batch).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for made in ["a", "a/b", "a/b/Mail", "a/b/Mail/tmp", "a/b/Mail/new", "a/b/Mail/cur"] {
        assert_eq!(mode(&dir.path().join(made)), 0o700, "{made}");
    }
    let files = maildir_files(&dir.path().join("a/b"));
    assert_eq!(files.len(), 50);
    for ((path, octets), body) in files.iter().zip(&bodies) {
        assert_eq!(octets, body, "sorted by name they are in the order of the drafts");
        assert_eq!(mode(path), 0o600);
        assert!(path.to_str().unwrap().ends_with(&format!(",S={}", body.len())), "{path:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_in_a_maildir_already_is_not_delivered_again_wherever_a_reader_put_it() {
    let large = vec![b'l'; 200_000];
    let batch: [(&str, &[u8]); 4] = [("new", b"1\n"), ("cur", b"2\n"), ("large", &large), ("empty", b"")];
    let dir = scratch();
    let disk = Disk::new();
    let first = open(&maildir(dir.path()), &disk).await.unwrap();
    assert_eq!(deliver(&first, &batch).await.unwrap(), [const { Outcome::Delivered }; 4]);
    let to_cur = |octets: &[u8], flags: &str| {
        let (path, _) = maildir_files(dir.path()).into_iter().find(|(_, found)| found == octets).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().split(":2,").next().unwrap().to_owned();
        fs::rename(&path, dir.path().join("Mail/cur").join(name + flags)).unwrap();
    };
    to_cur(b"2\n", ",W=3:2,FS");
    let sink = open(&maildir(dir.path()), &disk).await.unwrap();
    sink.recover(None).await.unwrap();
    // These move after they were indexed: one from new, one by its flags.
    to_cur(&large, ":2,");
    to_cur(b"2\n", ":2,RS");
    for _ in 0..2 {
        assert_eq!(deliver(&sink, &batch).await.unwrap(), [const { Outcome::AlreadyThere }; 4]);
        disk.settled().await;
        assert_eq!(maildir_files(dir.path()).len(), 4);
        assert_tmp_is_empty(dir.path());
    }
    // The session that delivered it may have been killed before it made anything durable.
    let watch = Watch::of(dir.path());
    let sink = open(&maildir(dir.path()), &Disk::new()).await.unwrap();
    sink.recover(None).await.unwrap();
    deliver(&sink, &[("new", b"1\n")]).await.unwrap();
    let (path, _) = maildir_files(dir.path()).into_iter().find(|(_, found)| found == b"1\n").unwrap();
    let mut synced = watch.end();
    synced.retain(|entry| matches!(entry.op, Op::Sync { .. }) && entry.error.is_none());
    assert!(synced.iter().any(|entry| dir.path().join(&entry.path) == path));
    let last: Vec<_> = synced[synced.len() - 2..].iter().map(|entry| entry.path.to_str().unwrap()).collect();
    assert_eq!(last, ["Mail/new", "Mail/cur"]);
}

#[tokio::test]
async fn another_message_of_the_same_unique_id_is_delivered_beside_the_first() {
    let dir = scratch();
    let disk = Disk::new();
    let sink = open(&maildir(dir.path()), &disk).await.unwrap();
    let (small, large) = (vec![b'a'; 1000], vec![b'a'; 200_000]);
    deliver(&sink, &[("small", &small), ("large", &large), ("gone", b"gone")]).await.unwrap();
    sink.recover(None).await.unwrap();
    let (gone, _) = maildir_files(dir.path()).into_iter().find(|(_, octets)| octets == b"gone").unwrap();
    fs::remove_file(gone).unwrap();
    let (mut other_small, mut other_large) = (small.clone(), large.clone());
    *other_small.last_mut().unwrap() = b'b';
    *other_large.last_mut().unwrap() = b'b';
    let shorter = &large[..large.len() - 1];
    let batch: [(&str, &[u8]); 4] =
        [("small", &other_small), ("large", &other_large), ("large", shorter), ("gone", b"gone")];
    assert_eq!(deliver(&sink, &batch).await.unwrap(), [const { Outcome::Delivered }; 4]);
    assert_eq!(maildir_files(dir.path()).len(), 6);
    // And all of them are known from now on.
    sink.recover(None).await.unwrap();
    for batch in [batch, [("small", &small), ("large", &large), ("large", shorter), ("gone", b"gone")]] {
        assert_eq!(deliver(&sink, &batch).await.unwrap(), [const { Outcome::AlreadyThere }; 4]);
    }
}

#[tokio::test]
async fn recovery_removes_what_this_maildrop_left_and_nothing_else() {
    let dir = scratch();
    let disk = Disk::new();
    let ours = open(&maildir(dir.path()), &disk).await.unwrap();
    let theirs =
        Sink::open(&maildir(dir.path()), "bob@pop.example.org".into(), disk.clone(), Access::default())
            .await
            .unwrap();
    deliver(&ours, &[("1", b"1")]).await.unwrap();
    deliver(&theirs, &[("1", b"1")]).await.unwrap();
    let tmp = dir.path().join("Mail/tmp");
    let new = names(&dir.path().join("Mail/new"));
    assert_eq!(new.len(), 2);
    for name in &new {
        // As a killed delivery of each leaves it: without the size.
        fs::write(tmp.join(name.split(',').next().unwrap()), "part").unwrap();
    }
    fs::write(tmp.join("1795404334.M857660P24084Q1.host"), "somebody else's").unwrap();
    // Another maildrop delivers meanwhile; its message is under way in tmp.
    let mut draft = theirs.draft(id("2"));
    fill(&mut draft, [&[b'x'; 100_000][..]; 3]).await.unwrap();
    ours.recover(None).await.unwrap();
    let left = names(&tmp);
    assert!(!left.contains(&new[0].split(',').next().unwrap().to_owned()), "{left:?}");
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(theirs.commit(vec![draft.finish()]).await.unwrap(), [Outcome::Delivered]);
    assert_eq!(names(&dir.path().join("Mail/new")).len(), 3);
}

#[tokio::test]
async fn what_is_no_place_for_mail_is_refused_with_words() {
    let dir = scratch();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("file"), "").unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for place in ["tmp", "new", "cur"] {
        let maildir = at(&format!("linked {place}"));
        fs::create_dir_all(&maildir).unwrap();
        fs::create_dir(at("elsewhere")).or_else(|_| fs::metadata(at("elsewhere")).map(drop)).unwrap();
        symlink(at("elsewhere"), maildir.join(place)).unwrap();
    }
    for (path, words) in [
        ("file", "is not a directory"),
        ("file/below", "is not a directory"),
        ("file/far/below", "is not a directory"),
        ("dangling", "cannot open"),
        ("linked tmp", "symbolic link"),
        ("linked new", "symbolic link"),
        ("linked cur", "symbolic link"),
    ] {
        let error = open(&Target::Maildir(at(path)), &Disk::new()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(at(path).to_str().unwrap()), "{path}: {text}");
    }
    assert_eq!(names(&at("elsewhere")), Vec::<String>::new());
}

#[tokio::test]
async fn a_link_to_a_maildir_is_a_maildir() {
    let dir = scratch();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("Mail")).unwrap();
    let sink = open(&maildir(dir.path()), &Disk::new()).await.unwrap();
    deliver(&sink, &[("1", b"1")]).await.unwrap();
    assert_eq!(names(&dir.path().join("real/new")).len(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn opening_an_existing_maildir_makes_nothing_new() {
    let dir = scratch();
    open(&maildir(dir.path()), &Disk::new()).await.unwrap();
    let watch = Watch::of(dir.path());
    open(&maildir(dir.path()), &Disk::new()).await.unwrap();
    let changes = |op: &Op| matches!(op, Op::MakeDirectory { .. } | Op::Create { .. } | Op::Remove { .. });
    let entries = watch.end();
    assert!(!entries.is_empty() && !entries.iter().any(|entry| changes(&entry.op)));
}
