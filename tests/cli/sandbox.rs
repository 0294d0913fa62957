//! The sandbox as the kernel and the user see it: what a poll needs is within it, and nothing else of the user's is.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::support::mail_server::MailServer;
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{Running, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, chown, geteuid};

/// Stands before a maildrop, and lets nobody through until it is opened: who knocks has confined himself.
struct Gate {
    port: u16,
    knocked: mpsc::Receiver<()>,
    key: mpsc::Sender<()>,
}

impl Gate {
    fn before(maildrop: &Maildrop) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, behind) = (listener.local_addr().unwrap().port(), maildrop.port());
        let (knock, knocked) = mpsc::channel();
        let (key, turned) = mpsc::channel();
        thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            knock.send(()).unwrap();
            turned.recv().unwrap();
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, behind)).unwrap();
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            // Either side ends the session as it likes.
            thread::spawn(move || {
                let _ = io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Write);
            });
            let _ = io::copy(&mut &client, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
        });
        Self { port, knocked, key }
    }

    fn wait(&self) {
        self.knocked.recv_timeout(LIMIT).expect("nobody came to the gate");
    }

    fn open(self) {
        self.key.send(()).unwrap();
    }
}

fn maildrop(tls: Protection, messages: &[&str]) -> Maildrop {
    let maildrop = Maildrop::start(Settings { tls, ..Settings::default() });
    for uid in messages {
        maildrop.put(uid, mail(uid));
    }
    maildrop
}

fn mail(uid: &str) -> Vec<u8> {
    format!("From: alice@example.org\r\nSubject: {uid}\r\n\r\nHello\r\n").into_bytes()
}

fn account(name: &str, port: u16, keys: &str) -> String {
    format!("  {name}: {{ host: localhost, port: {port}, user: alice, maildrop_id: {name}, {keys} }}\n")
}

/// Starts the program where the test can look at the process.
fn started(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(arguments);
    command.env("TMPDIR", home.path("spool")).stdin(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits for the end; gives exit status and standard error.
fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Says whether this kernel confines anybody, by the program's own word; what follows from it is tested by the others.
fn kernel_has_landlock() -> bool {
    let home = Home::new();
    let nobody = "{ host: 127.0.0.1, port: 1, user: u, password: p, deliver: { maildir: ~/Mail } }";
    home.configure(&format!("accounts:\n  a: {nobody}\n"));
    let ended = home.run(&["-vv", "sync"]);
    if ended.stderr.contains("sandbox: none: this kernel has no Landlock") {
        eprintln!("not tested: this kernel has no Landlock");
        return false;
    }
    assert!(ended.stderr.contains("sandbox: reads"), "{}", ended.stderr);
    true
}

#[test]
fn all_that_a_poll_needs_is_within_the_sandbox() {
    let confined = kernel_has_landlock();
    let home = Home::new();
    let password = Settings::default().password;
    let drops: Vec<_> = (0..4).map(|_| maildrop(Protection::Implicit, &["one", "two"])).collect();
    for maildrop in &drops {
        // Too large for memory.
        maildrop.put(
            "large",
            [mail("large"), [b"x".repeat(70), b"\r\n".to_vec()].concat().repeat(5000)].concat(),
        );
    }
    let socket = home.path("lmtp.socket");
    let server = MailServer::on_socket(&socket, &[]);
    home.write("secrets/password", &format!("{password}\n"));
    home.write("credentials/pop", &password);
    home.write(".netrc", &format!("machine localhost login alice password \"{password}\"\n"));
    for directory in ["folder", "spool", "real"] {
        fs::create_dir(home.path(directory)).unwrap();
    }
    symlink(home.path("real"), home.path("link")).unwrap();
    let accounts = [
        ("{ file: ~/secrets/password }", "maildir: ~/deep/down/Mail".to_owned()),
        ("{ netrc: ~/.netrc }", "mbox: ~/folder/inbox".to_owned()),
        ("{ env: PASSWORD }", format!("lmtp: {{ socket: {}, to: [bob@example.org] }}", socket.display())),
        ("{ credential: pop }", "maildir: ~/link".to_owned()),
    ];
    let mut yaml = "accounts:\n".to_owned();
    for (index, (maildrop, (from, target))) in drops.iter().zip(&accounts).enumerate() {
        let ca = home.write(&format!("tls/{index}.pem"), &maildrop.certificate.authority_pem);
        let ca = ca.display();
        let keys = format!("tls_ca: {ca}, keep: none, password: {from}, deliver: {{ {target} }}");
        yaml += &account(&format!("a{index}"), maildrop.port(), &keys);
    }
    home.configure(&yaml);
    let mut command = home.command(&["-vv", "sync"]);
    command.env("PASSWORD", &password);
    command.env("CREDENTIALS_DIRECTORY", home.path("credentials")).env("TMPDIR", home.path("spool"));
    let first = Running::start(&mut command).wait(LIMIT);
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    assert_eq!(first.stderr.contains("sandbox: reads"), confined, "{}", first.stderr);
    assert_eq!(home.maildir("deep/down/Mail").len(), 3);
    assert_eq!(home.maildir("real").len(), 3);
    assert_eq!(home.mode("deep/down/Mail/new"), 0o700);
    let mbox = fs::read_to_string(home.path("folder/inbox")).unwrap();
    assert_eq!(mbox.matches("\nSubject: ").count(), 3);
    assert_eq!(server.arrived().len(), 3);
    assert!(drops.iter().all(|maildrop| maildrop.uids().is_empty()));
    // And once more, when all is there and nothing new.
    let second = Running::start(&mut command).wait(LIMIT);
    assert_eq!(second.status, Some(0), "{}", second.stderr);
}

#[test]
fn a_process_that_polls_cannot_get_new_privileges_unless_the_sandbox_is_off_or_a_command_may_need_them() {
    let password = Settings::default().password;
    let rows = [
        ("auto", format!("password: {password}, deliver: {{ maildir: ~/Mail }}"), "1", "sandbox: "),
        ("off", format!("password: {password}, deliver: {{ maildir: ~/Mail }}"), "0", "sandbox: off"),
        (
            "auto",
            format!("password: {password}, deliver: {{ pipe: [cat] }}"),
            "0",
            "sandbox: none, since `deliver` of a is a command",
        ),
        (
            "auto",
            format!("password: {{ command: echo {password} }}, deliver: {{ maildir: ~/Mail }}"),
            "0",
            "sandbox: none, since `password` of a is a command",
        ),
    ];
    for (sandbox, keys, no_new_privileges, told) in rows {
        let maildrop = maildrop(Protection::None, &["one"]);
        let gate = Gate::before(&maildrop);
        let home = Home::new();
        fs::create_dir(home.path("spool")).unwrap();
        let plain = format!("tls: none, auth: [user-pass], {keys}");
        home.configure(&format!("sandbox: {sandbox}\naccounts:\n{}", account("a", gate.port, &plain)));
        let child = started(&home, &["-vv", "sync"]);
        gate.wait();
        // Of the thread that began, and of what it started.
        let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        for thread in threads {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(status.contains(&format!("\nNoNewPrivs:\t{no_new_privileges}\n")), "{keys}: {status}");
        }
        gate.open();
        let (status, stderr) = ended(child);
        assert_eq!(status, Some(0), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
}

/// Polls two accounts one after the other, and does something when the first has connected; gives what became of it.
fn polled_after(home: &Home, second: &str, then: impl FnOnce()) -> (Option<i32>, String) {
    let drops = [maildrop(Protection::None, &["one"]), maildrop(Protection::None, &["two"])];
    let gate = Gate::before(&drops[0]);
    let password = Settings::default().password;
    let first =
        format!("tls: none, auth: [user-pass], password: {password}, deliver: {{ maildir: ~/first }}");
    let second = format!("tls: none, auth: [user-pass], {second}");
    home.configure(&format!(
        "daemon: {{ max_sessions: 1 }}\naccounts:\n{}{}",
        account("first", gate.port, &first),
        account("second", drops[1].port(), &second)
    ));
    fs::create_dir_all(home.path("spool")).unwrap();
    let child = started(home, &["sync"]);
    gate.wait();
    then();
    gate.open();
    let ended = ended(child);
    assert_eq!(home.maildir("first").len(), 1, "the other account was not polled: {ended:?}");
    ended
}

const REFUSED: &str = "hint: the sandbox refused it: ";

#[test]
fn a_password_file_that_becomes_a_link_to_another_file_of_the_user_is_not_read() {
    if !kernel_has_landlock() {
        return;
    }
    let home = Home::new();
    let file = home.write("secrets/password", "x");
    // Even the right password: it is not read.
    let private = home.write("private/key", &Settings::default().password);
    let (status, stderr) =
        polled_after(&home, "password: { file: ~/secrets/password }, deliver: { maildir: ~/Mail }", || {
            fs::remove_file(&file).unwrap();
            symlink(&private, &file).unwrap();
        });
    assert_eq!(status, Some(77), "{stderr}");
    assert!(stderr.contains("secrets/password: Permission denied"), "{stderr}");
    assert!(stderr.contains(REFUSED), "{stderr}");
}

#[test]
fn a_password_file_that_is_replaced_by_a_new_one_is_read() {
    let home = Home::new();
    let file = home.write("secrets/password", "the old one");
    let new = home.write("secrets/new", &Settings::default().password);
    let (status, stderr) =
        polled_after(&home, "password: { file: ~/secrets/password }, deliver: { maildir: ~/Mail }", || {
            fs::rename(&new, &file).unwrap();
        });
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn a_netrc_in_the_home_directory_opens_nothing_else_there() {
    if !kernel_has_landlock() {
        return;
    }
    let home = Home::new();
    let entry = format!("machine localhost login alice password \"{}\"\n", Settings::default().password);
    let file = home.write(".netrc", &entry);
    let other = home.write(".other", &entry);
    let (status, stderr) =
        polled_after(&home, "password: { netrc: ~/.netrc }, deliver: { maildir: ~/Mail }", || {
            fs::rename(&other, &file).unwrap();
        });
    assert_eq!(status, Some(77), "{stderr}");
    assert!(stderr.contains(REFUSED), "{stderr}");
}

#[test]
fn a_target_that_becomes_a_link_to_elsewhere_is_not_written() {
    if !kernel_has_landlock() {
        return;
    }
    for (deliver, path) in [("maildir: ~/Mail", "Mail"), ("mbox: ~/folder/inbox", "folder")] {
        let home = Home::new();
        for directory in ["private", "folder"] {
            fs::create_dir(home.path(directory)).unwrap();
        }
        let keys = format!("password: {}, deliver: {{ {deliver} }}", Settings::default().password);
        let (status, stderr) = polled_after(&home, &keys, || {
            fs::rename(home.path(path), home.path("moved")).unwrap();
            symlink(home.path("private"), home.path(path)).unwrap();
        });
        assert_eq!(status, Some(75), "{stderr}");
        assert!(stderr.contains(REFUSED), "{stderr}");
        assert_eq!(fs::read_dir(home.path("private")).unwrap().count(), 0);
    }
}

#[test]
fn an_mbox_directly_in_the_home_directory_makes_all_of_it_writable_which_is_told() {
    if !kernel_has_landlock() {
        return;
    }
    let maildrop = maildrop(Protection::None, &["one"]);
    let home = Home::new();
    let password = Settings::default().password;
    let keys = format!("tls: none, auth: [user-pass], password: {password}, deliver: {{ mbox: ~/inbox }}");
    home.configure(&format!("accounts:\n{}", account("a", maildrop.port(), &keys)));
    let ended = home.must(&["-v", "sync"], 0);
    let told = "can be written: the mbox of a lies directly in it";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
}

#[test]
fn a_dry_run_makes_no_directory_for_the_sandbox() {
    let maildrop = maildrop(Protection::None, &["one"]);
    let home = Home::new();
    let password = Settings::default().password;
    let keys = format!("tls: none, auth: [user-pass], password: {password}, deliver: {{ maildir: ~/Mail }}");
    home.configure(&format!("accounts:\n{}", account("a", maildrop.port(), &keys)));
    let ended = home.must(&["sync", "--dry-run"], 0);
    assert!(ended.stdout.contains("one"), "{}", ended.stdout);
    assert!(!home.path("Mail").exists());
}

#[test]
fn root_does_not_deliver_into_the_maildir_or_mbox_of_a_user() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can deliver to others");
        return;
    }
    let of_user = |path: &Path| chown(path, Some(Uid::from_raw(4242)), None).unwrap();
    let password = Settings::default().password;
    for (deliver, theirs) in [
        ("maildir: ~/Mail", "Mail"),
        // It would be made in a directory of theirs.
        ("maildir: ~/theirs/Mail", "theirs"),
        ("maildir: ~/theirs/deep/Mail", "theirs"),
        ("maildir: ~/Mail", "Mail/new"),
        ("mbox: ~/folder/inbox", "folder"),
        ("mbox: ~/inbox", "inbox"),
    ] {
        let maildrop = maildrop(Protection::None, &["one"]);
        let home = Home::new();
        let keys = format!("tls: none, auth: [user-pass], password: {password}, deliver: {{ {deliver} }}");
        home.configure(&format!("accounts:\n{}", account("a", maildrop.port(), &keys)));
        if theirs == "inbox" {
            fs::write(home.path(theirs), "").unwrap();
        } else {
            fs::create_dir_all(home.path(theirs)).unwrap();
        }
        of_user(&home.path(theirs));
        let ended = home.must(&["sync"], 75);
        assert!(ended.stderr.contains("belongs to user 4242, and this runs as root"), "{}", ended.stderr);
        assert!(ended.stderr.contains("pipe: { command: ..., user: 4242 }"), "{}", ended.stderr);
        assert_eq!(maildrop.uids(), ["one"]);
        // Root's own stays open to root.
        chown(&home.path(theirs), Some(Uid::from_raw(0)), None).unwrap();
        home.must(&["sync"], 0);
    }
}

#[test]
fn root_follows_no_link_of_a_user_to_a_maildir_an_mbox_or_a_state_file() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can own what others link to");
        return;
    }
    let theirs = |path: &Path| lchown(path, Some(4242), None).unwrap();
    let password = Settings::default().password;
    // What is configured, the link, and where that leads, which is root's.
    for (deliver, state, link, leads_to) in [
        ("maildir: ~/Mail", "~/state.db", "Mail", "precious"),
        ("maildir: ~/folder/Mail", "~/state.db", "folder", "precious"),
        ("mbox: ~/folder/inbox", "~/state.db", "folder", "precious"),
        ("maildir: ~/Mail", "~/linked.db", "linked.db", "precious/state.db"),
        ("maildir: ~/Mail", "~/state.db", "state.db.lock", "precious/lock"),
    ] {
        let maildrop = maildrop(Protection::None, &["one"]);
        let home = Home::new();
        let keys = format!("tls: none, auth: [user-pass], password: {password}, deliver: {{ {deliver} }}");
        home.configure(&format!("state: {state}\naccounts:\n{}", account("a", maildrop.port(), &keys)));
        fs::create_dir(home.path("precious")).unwrap();
        for file in ["state.db", "lock"] {
            fs::write(home.path("precious").join(file), "").unwrap();
            fs::set_permissions(home.path("precious").join(file), fs::Permissions::from_mode(0o644)).unwrap();
        }
        let before = fs::read_dir(home.path("precious")).unwrap().count();
        symlink(home.path(leads_to), home.path(link)).unwrap();
        theirs(&home.path(link));
        let ended = home.must(&["sync"], 75);
        assert!(ended.stderr.contains("symbolic link"), "{deliver}, {state}: {}", ended.stderr);
        assert_eq!(fs::read_dir(home.path("precious")).unwrap().count(), before, "{deliver}, {state}");
        for file in ["precious/state.db", "precious/lock"] {
            assert_eq!((home.mode(file), fs::read(home.path(file)).unwrap().len()), (0o644, 0), "{link}");
        }
        assert_eq!(maildrop.uids(), ["one"]);
        // Root's own are followed, but in the place of the lock.
        lchown(home.path(link), Some(0), None).unwrap();
        home.must(&["sync"], if link.ends_with(".lock") { 75 } else { 0 });
    }
}

#[test]
fn a_daemon_takes_no_configuration_over_that_its_sandbox_does_not_cover_and_says_so() {
    if !kernel_has_landlock() {
        return;
    }
    let (one, two) = (maildrop(Protection::None, &["one"]), maildrop(Protection::None, &["two"]));
    let home = Home::new();
    let password = Settings::default().password;
    let keys = format!("tls: none, auth: [user-pass], interval: 1s, password: {password}, deliver");
    let first = account("a", one.port(), &format!("{keys}: {{ maildir: ~/Mail }}"));
    let text = |more: &str| format!("daemon: {{ startup_spread: 0s }}\naccounts:\n{first}{more}");
    home.configure(&text(""));
    let log = home.path("log");
    let daemon = Running::start_logging(&mut home.command(&["daemon"]), &log);
    let soon = |so: &dyn Fn() -> bool| {
        assert!(wait_until(LIMIT, so), "{}", fs::read_to_string(&log).unwrap());
    };
    soon(&|| home.maildir("Mail").len() == 1);
    home.configure(&text(&account("b", two.port(), &format!("{keys}: {{ maildir: ~/Other }}"))));
    daemon.signal(Signal::SIGHUP);
    let logged = |words: &str| fs::read_to_string(&log).unwrap().contains(words);
    soon(&|| logged("not taken over: the maildir of b needs ") && logged("cannot widen that: restart it"));
    // The old one stays.
    one.put("more", mail("more"));
    soon(&|| home.maildir("Mail").len() == 2);
    // What is covered is taken, from a file that was put in the place of the first.
    let new = home.write(
        "config/postrider/new",
        &text(&account("b", two.port(), &format!("{keys}: {{ maildir: ~/Mail/.b }}"))),
    );
    fs::rename(new, home.path("config/postrider/config.yaml")).unwrap();
    daemon.signal(Signal::SIGHUP);
    soon(&|| home.maildir("Mail/.b").len() == 1);
    assert!(!home.path("Other").exists());
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait(LIMIT);
    assert_eq!(ended.status, Some(0));
}
