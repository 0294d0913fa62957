//! What version 0.1.0 left, its state and its maildirs, is taken over: nothing is fetched twice, and nothing is missed.
//!
//! `state.sql` is a dump of a state file that it wrote, `files` names what lay in its maildirs, and which messages they
//! are. Account `ids` had a server with unique-ids, which refused uid-3, and uid-4 was marked as seen; the server of
//! `headers` knew no UIDL, and that of `contents` neither UIDL nor TOP, and it hung up at QUIT.

use std::fs;

use crate::support::maildrop::{Maildrop, Settings, What};
use crate::support::postrider::{Home, assert_same};

const STATE: &str = include_str!("state.sql");
const FILES: &str = include_str!("files");
const ACCOUNTS: [(&str, &str, &[&str]); 3] =
    [("ids", "forever", &[]), ("headers", "forever", &["UIDL"]), ("contents", "none", &["UIDL", "TOP"])];

/// Gives a message by its name; two twins have one header, which proves little, and one size.
fn message(name: &str) -> Vec<u8> {
    let status = if name == "uid-2" { "Status: O\r\n" } else { "" };
    let text = match name.strip_prefix("twin-") {
        Some(number) => format!("Subject: status\r\n\r\nTwin {number}.\r\n"),
        None => format!(
            "Message-ID: <{name}@example.org>\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\n\
             From: Alice <alice@example.org>\r\nSubject: {name}\r\n{status}\r\nText of {name}.\r\n"
        ),
    };
    text.into_bytes()
}

fn delivered(names: &[&str]) -> Vec<Vec<u8>> {
    let text = |name: &&str| String::from_utf8(message(name)).unwrap().replace("\r\n", "\n").into_bytes();
    names.iter().map(text).collect()
}

/// What was left, on a machine with today's program, and the servers.
struct Old {
    home: Home,
    ids: Maildrop,
    headers: Maildrop,
    contents: Maildrop,
}

impl Old {
    fn new() -> Self {
        let home = Home::new();
        fs::create_dir_all(home.path("state/postrider")).unwrap();
        let state = rusqlite::Connection::open(home.path("state/postrider/state.db")).unwrap();
        state.execute_batch(STATE).unwrap();
        for line in FILES.lines() {
            let (path, name) = line.split_once(' ').unwrap();
            let path = home.path(path);
            for folder in ["tmp", "new", "cur"] {
                fs::create_dir_all(path.parent().unwrap().with_file_name(folder)).unwrap();
            }
            fs::write(path, &delivered(&[name])[0]).unwrap();
        }
        let [ids, headers, contents] = ACCOUNTS.map(|(user, _, unknown)| {
            let unknown: Vec<String> = unknown.iter().map(|command| command.to_string()).collect();
            let settings = Settings { user: user.into(), unknown: unknown.clone(), ..Settings::default() };
            let mut settings = unknown.iter().fold(settings, |settings, command| settings.without(command));
            // Each shows its own certificate.
            settings.tls = crate::support::maildrop::Protection::None;
            Maildrop::start(settings)
        });
        (0..6).for_each(|n| ids.put(&format!("uid-{n}"), message(&format!("uid-{n}"))));
        ids.refuse("uid-3", Some("-ERR cannot read the message"));
        for name in ["header-0", "header-1", "twin-0", "twin-1"] {
            headers.put(name, message(name));
        }
        for (uid, name) in [("a", "content-0"), ("b", "content-1"), ("c", "twin-0"), ("d", "twin-0")] {
            contents.put(uid, message(name));
        }
        let old = Self { home, ids, headers, contents };
        old.configure(&ACCOUNTS.map(|(user, keep, _)| (user, keep)));
        old
    }

    fn configure(&self, accounts: &[(&str, &str)]) {
        let port = |user: &str| match user {
            "ids" => self.ids.port(),
            "headers" => self.headers.port(),
            _ => self.contents.port(),
        };
        let account = |(user, keep): &(&str, &str)| {
            format!(
                "  {user}: {{ host: 127.0.0.1, port: {}, tls: none, auth: [user-pass], user: {user}, \
                 password: correct horse, maildrop_id: {user}@old, keep: {keep}, \
                 deliver: {{ maildir: ~/{user} }} }}\n",
                port(user)
            )
        };
        let accounts: String = accounts.iter().map(account).collect();
        self.home.configure(&format!("accounts:\n{accounts}"));
    }

    /// Lists what was sent whole.
    fn sent(server: &Maildrop) -> Vec<String> {
        let sent = |what: &What| match what {
            What::Sent(uid) => Some(uid.clone()),
            _ => None,
        };
        server.events().iter().filter_map(|event| sent(&event.what)).collect()
    }

    fn recorded(&self, query: &str) -> i64 {
        let state = rusqlite::Connection::open(self.home.path("state/postrider/state.db")).unwrap();
        state.query_row(query, [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn what_version_0_1_0_fetched_is_not_fetched_again_and_what_it_held_stays_held() {
    let old = Old::new();
    old.ids.put("uid-6", message("uid-6"));
    old.headers.put("header-2", message("header-2"));
    // One message stays held.
    for _ in 0..2 {
        old.home.must(&["sync"], 75);
    }
    assert_eq!(Old::sent(&old.ids), ["uid-6"]);
    // Headers that prove little are no proof that these are the twins: once, they are compared.
    assert_eq!(Old::sent(&old.headers), ["twin-0", "twin-1", "header-2"]);
    assert_same(old.home.maildir("ids"), delivered(&["uid-0", "uid-1", "uid-2", "uid-5", "uid-6"]));
    let headers = ["header-0", "header-1", "twin-0", "twin-1", "header-2"];
    assert_same(old.home.maildir("headers"), delivered(&headers));
    let held = old.home.must(&["held", "list", "ids"], 0).stdout;
    assert!(held.contains("uid-3: server refused RETR 4: cannot read the message"), "{held}");
    assert_eq!(old.recorded("SELECT since FROM held"), 1_795_964_810, "it is held since then");
    let seen = old.home.must(&["seen", "list", "ids"], 0).stdout;
    assert!(seen.lines().any(|line| line.contains("marked") && line.ends_with("uid-4")), "{seen}");
    old.ids.refuse("uid-3", None);
    old.home.must(&["held", "retry", "ids"], 0);
    assert_eq!(Old::sent(&old.ids), ["uid-6", "uid-3"]);
}

#[test]
fn what_version_0_1_0_named_by_content_is_compared_deleted_and_known_by_what_it_is() {
    let old = Old::new();
    old.configure(&[("contents", "none")]);
    old.contents.put("e", message("content-2"));
    old.home.must(&["sync"], 0);
    assert_same(
        old.home.maildir("contents"),
        delivered(&["content-0", "content-1", "content-2", "twin-0", "twin-0"]),
    );
    assert_eq!(old.contents.uids(), Vec::<String>::new());
    let kept = "SELECT count(*) FROM seen WHERE maildrop = 3 AND (header IS NOT NULL OR content IS NULL)";
    assert_eq!(old.recorded(kept), 0, "header digests are replaced");
}

#[test]
fn a_message_with_the_header_and_size_of_one_that_version_0_1_0_named_by_content_is_fetched() {
    let old = Old::new();
    old.configure(&[("contents", "none")]);
    old.contents.remove("c");
    old.contents.put("e", message("twin-9"));
    old.home.must(&["sync"], 0);
    let all = ["content-0", "content-1", "twin-0", "twin-0", "twin-9"];
    assert_same(old.home.maildir("contents"), delivered(&all));
    assert_eq!(old.contents.uids(), Vec::<String>::new());
}

#[test]
fn files_of_version_0_1_0_are_recognised_after_a_lost_state() {
    let old = Old::new();
    fs::remove_dir_all(old.home.path("state")).unwrap();
    old.ids.refuse("uid-3", None);
    old.ids.put("uid-6", message("uid-6"));
    old.headers.put("header-2", message("header-2"));
    old.contents.put("e", message("twin-9"));
    old.home.must(&["sync"], 0);
    let ids = ["uid-0", "uid-1", "uid-2", "uid-3", "uid-4", "uid-5", "uid-6"];
    assert_same(old.home.maildir("ids"), delivered(&ids));
    let headers = ["header-0", "header-1", "twin-0", "twin-1", "header-2"];
    assert_same(old.home.maildir("headers"), delivered(&headers));
    let contents = ["content-0", "content-1", "twin-0", "twin-0", "twin-9"];
    assert_same(old.home.maildir("contents"), delivered(&contents));
    assert_eq!(old.contents.uids(), Vec::<String>::new());
}

#[test]
fn what_version_0_1_0_delivered_is_deleted_when_its_header_is_shown_again_and_nothing_else_is() {
    let old = Old::new();
    old.configure(&[("ids", "none"), ("headers", "none")]);
    // A server that writes into messages, and one that gave a unique-id to another message of one size.
    old.ids.remove("uid-0");
    let text = String::from_utf8(message("uid-0")).unwrap();
    old.ids.put("uid-0", text.replacen("\r\n\r\n", "\r\nStatus: RO\r\n\r\n", 1));
    old.ids.remove("uid-5");
    old.ids.put("uid-5", message("uid-7"));
    for _ in 0..2 {
        old.home.must(&["sync"], 75);
    }
    assert_same(old.home.maildir("ids"), delivered(&["uid-0", "uid-1", "uid-2", "uid-5", "uid-7"]));
    assert_eq!(old.ids.uids(), ["uid-3", "uid-4"], "what was held, and what was only marked");
    assert_same(old.home.maildir("headers"), delivered(&["header-0", "header-1", "twin-0", "twin-1"]));
    assert_eq!(old.headers.uids(), Vec::<String>::new());
    let kept =
        "SELECT count(*) FROM seen WHERE kind = 0 AND maildrop < 3 AND identity IS NULL AND second IS NULL";
    assert_eq!(old.recorded(kept), 1, "of all but the old uid-5, which is gone, the state knows more now");
}
