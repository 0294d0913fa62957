//! The pipe target: what a command gets, what its end means, and that nothing of it stays behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use crate::alone::alone;
use crate::sink::{deliver, open, scratch};
#[cfg(target_os = "linux")]
use crate::system::{Fault, Lasts, Watch};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, User, geteuid};
use postrider::testing::config::{CommandLine, Config, Pipe, Target};
use postrider::testing::delivery::{Outcome, TargetError};
use postrider::testing::disk::Disk;

const HELLO: &[u8] = b"Return-Path: <bob@example.org>\r\nSubject: hello\r\n\r\nHello\r\n";

/// Reads a target as a configuration has it; `DIR` stands for the directory.
fn configured(dir: &Path, pipe: &str) -> Target {
    let pipe = pipe.replace("DIR", &dir.display().to_string());
    let yaml = format!(
        "state: /s\naccounts:\n  home:\n    host: pop.example.org\n    user: alice+lists@example.org\n    deliver: {{ pipe: {pipe} }}\n"
    );
    let config =
        Config::from_yaml(&yaml, Path::new("config.yaml")).unwrap_or_else(|error| panic!("{yaml}{error}"));
    config.accounts.into_iter().next().unwrap().deliver.remove(0).target
}

/// Makes a target of a script for the shell, with `$0` as the directory.
fn script(dir: &Path, text: &str) -> Target {
    fs::write(dir.join("script"), text).unwrap();
    configured(dir, "[sh, DIR/script]")
}

/// Gives the target another time limit.
fn within(target: Target, timeout: Duration) -> Target {
    match target {
        Target::Pipe(pipe) => Target::Pipe(Box::new(Pipe { timeout, ..*pipe })),
        other => other,
    }
}

async fn one(target: &Target, message: &[u8]) -> Result<Outcome, TargetError> {
    let sink = open(target, &Disk::new()).await?;
    Ok(deliver(&sink, &[("UID-1", message)]).await?.remove(0))
}

#[tokio::test]
async fn messages_come_one_at_a_time_in_their_order() {
    let dir = scratch();
    let target = script(
        dir.path(),
        "cd ${0%/*}; mkdir running || exit 1; echo $POSTRIDER_UID >> order; cat > /dev/null; rmdir running",
    );
    let sink = open(&target, &Disk::new()).await.unwrap();
    assert_eq!(sink.facts().most_at_once, 1, "a crash would repeat several");
    let uids: Vec<String> = (0..20).map(|number| format!("u{number}")).collect();
    let messages: Vec<(&str, &[u8])> = uids.iter().map(|uid| (uid.as_str(), HELLO)).collect();
    assert_eq!(deliver(&sink, &messages).await.unwrap(), vec![Outcome::Delivered; 20]);
    let order = fs::read_to_string(dir.path().join("order")).unwrap();
    assert_eq!(order.lines().collect::<Vec<_>>(), uids);
}

#[tokio::test]
async fn a_command_is_told_the_facts_in_its_environment_and_in_its_arguments() {
    let dir = scratch();
    let target = configured(
        dir.path(),
        "[sh, -c, 'printf \"<%s>\\n\" \"$@\" > DIR/words; env > DIR/env', sh, '%(from)', '%(to)', '%(account)', '%(user)', \
         '%(uid)', '%(size)', '%(extension)', -f, 'a %(b)c', '%']",
    );
    assert_eq!(one(&target, HELLO).await.unwrap(), Outcome::Delivered);
    let words = fs::read_to_string(dir.path().join("words")).unwrap();
    let expected = [
        "bob@example.org",
        "alice+lists@example.org",
        "home",
        "alice+lists@example.org",
        "UID-1",
        "53",
        "lists",
        "-f",
        "a %(b)c",
        "%",
    ];
    assert_eq!(words.lines().collect::<Vec<_>>(), expected.map(|word| format!("<{word}>")));
    let env = fs::read_to_string(dir.path().join("env")).unwrap();
    for line in [
        "POSTRIDER_ACCOUNT=home",
        "POSTRIDER_USER=alice+lists@example.org",
        "POSTRIDER_UID=UID-1",
        "POSTRIDER_SIZE=53",
        "POSTRIDER_FROM=bob@example.org",
        "POSTRIDER_TO=alice+lists@example.org",
        "SENDER=bob@example.org",
        "RECIPIENT=alice+lists@example.org",
        "EXTENSION=lists",
    ] {
        assert!(env.lines().any(|found| found == line), "{line} is not in {env}");
    }
}

#[tokio::test]
async fn a_command_is_told_whom_the_providers_header_names() {
    let dir = scratch();
    let target = configured(
        dir.path(),
        "{ command: [sh, -c, 'printf \"<%s>\" \"$POSTRIDER_TO\" \"$EXTENSION\" \"$@\" > DIR/told', sh, -d, '%(to)', --], \
         to: { header: X-Original-To, domains: [.example.org] } }",
    );
    let told = |to: &str| format!("X-Original-To: {to}\r\nTo: all@example.org\r\n\r\n").into_bytes();
    let two = told("bob+x@a.example.org, carol@b.example.org");
    assert_eq!(one(&target, &two).await.unwrap(), Outcome::Delivered);
    let words = fs::read_to_string(dir.path().join("told")).unwrap();
    assert_eq!(
        words,
        "<bob+x@a.example.org carol@b.example.org><x><-d><bob+x@a.example.org><carol@b.example.org><-->"
    );
    for (to, why) in [
        ("bob@example.org", "which neither `domains` nor `map` has"),
        ("-oQ@a.example.org", "it is for -oQ@a.example.org, which a command may take for something else"),
    ] {
        let Outcome::Refused(said) = one(&target, &told(to)).await.unwrap() else { panic!("{to}") };
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("told")).unwrap(), words, "no command ran");
}

#[tokio::test]
async fn nothing_from_a_message_or_the_server_becomes_shell_text_an_option_or_a_second_word() {
    let evil = [
        "$(touch pwned)@x",
        "`touch${IFS}pwned`@x",
        "a@x;touch${IFS}pwned",
        "a@x|touch${IFS}pwned",
        "'$(touch${IFS}pwned)'@x",
        "\"&&touch${IFS}pwned@x",
        "-oQ/tmp@x",
        "--help@x",
        "a@x\n touch pwned",
        "%(uid)@x",
        "*@x",
    ];
    let header =
        |field: &str, value: &str| format!("{field}: <{}>\r\n\r\nHello\r\n", value.replace('\n', "\r\n"));
    let fields =
        ["Return-Path", "From", "Sender", "Reply-To", "To", "Cc", "Subject", "X-Original-To", "Message-ID"];
    for value in evil {
        for field in fields {
            let dir = scratch();
            let argv = configured(
                dir.path(),
                "[sh, -c, 'cd DIR; printf \"<%s>\\n\" $# \"$1\" \"$2\" \"$3\" > words', sh, '%(from)', '%(uid)', '%(size)']",
            );
            let shell = configured(
                dir.path(),
                "'cd DIR; printf \"<%s>\\n\" 3 \"$SENDER\" \"$POSTRIDER_UID\" \"$POSTRIDER_SIZE\" > words; \
                 eval \"set -- $EXTENSION\"'",
            );
            let message = header(field, value);
            for target in [argv, shell] {
                let sink = open(&target, &Disk::new()).await.unwrap();
                let outcome = deliver(&sink, &[(value, message.as_bytes())]).await.unwrap();
                assert_eq!(outcome, [Outcome::Delivered], "{field}: {value}");
                let words = fs::read_to_string(dir.path().join("words")).unwrap();
                assert!(words.starts_with("<3>\n"), "{words}");
                let sender = words.lines().nth(1).unwrap();
                assert!(
                    !sender.starts_with("<-") && !sender.contains("touch pwned"),
                    "{field}: {value}: {words}"
                );
                assert!(["Return-Path", "From"].contains(&field) || sender == "<>", "{field}: {words}");
                for pwned in [dir.path().join("pwned"), PathBuf::from("pwned")] {
                    assert!(!pwned.exists(), "{field}: {value}");
                }
            }
        }
    }
    // What is an argument of its own is not taken for an option either; the environment has it as it is.
    let dir = scratch();
    let target =
        configured(dir.path(), "[sh, -c, 'echo \"<$1> <$POSTRIDER_UID>\" > DIR/words', sh, '%(uid)']");
    let sink = open(&target, &Disk::new()).await.unwrap();
    deliver(&sink, &[("-rf", HELLO)]).await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("words")).unwrap(), "<> <-rf>\n");
}

#[tokio::test]
async fn the_exit_says_what_becomes_of_the_message_and_its_last_words_are_told() {
    let dir = scratch();
    for (text, outcome) in [
        ("exit 0", Outcome::Delivered),
        (
            "echo no room >&2; echo out; exit 75",
            Outcome::Later("sh exited with 75 (EX_TEMPFAIL): no room".into()),
        ),
        ("exit 71", Outcome::Later("sh exited with 71 (EX_OSERR)".into())),
        ("exit 74", Outcome::Later("sh exited with 74 (EX_IOERR)".into())),
        ("kill -SEGV $$", Outcome::Later("sh was ended by signal 11 (SIGSEGV)".into())),
        ("kill -KILL $$", Outcome::Later("sh was ended by signal 9 (SIGKILL)".into())),
        ("echo said; exit 67", Outcome::Refused("sh exited with 67 (EX_NOUSER): said".into())),
        (
            "printf 'one\\ntwo \\033[31m' >&2; exit 1",
            Outcome::Refused("sh exited with 1: two \\u{1b}[31m".into()),
        ),
        ("exit 77", Outcome::Refused("sh exited with 77 (EX_NOPERM)".into())),
    ] {
        assert_eq!(one(&script(dir.path(), text), HELLO).await.unwrap(), outcome, "{text}");
    }
}

#[tokio::test]
async fn a_command_need_not_read_the_message_to_have_it() {
    let dir = scratch();
    let large = b"A line of a message of ten million octets.\r\n".repeat(230_000);
    for text in ["exit 0", "head -c 10 > /dev/null", "exec < /dev/null", "exec <&-; sleep 0.1"] {
        for message in [HELLO, &large] {
            assert_eq!(one(&script(dir.path(), text), message).await.unwrap(), Outcome::Delivered, "{text}");
        }
    }
    let outcome = one(&script(dir.path(), "exit 75"), &large).await.unwrap();
    assert_eq!(outcome, Outcome::Later("sh exited with 75 (EX_TEMPFAIL)".into()));
}

#[tokio::test]
async fn what_a_command_leaves_running_is_not_waited_for_and_reads_on() {
    let dir = scratch();
    let large = b"A line of a message of a million octets..\r\n".repeat(23_000);
    // It holds standard input, output and error.
    let target = script(
        dir.path(),
        "cd ${0%/*}; exec 3<&0; (while [ ! -e go ]; do sleep 0.02; done; cat <&3 > part; mv part whole) &\necho $! > pid",
    );
    let begun = Instant::now();
    assert_eq!(one(&target, &large).await.unwrap(), Outcome::Delivered);
    assert!(begun.elapsed() < Duration::from_secs(5), "it was waited for");
    let pid = Pid::from_raw(fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap());
    assert_eq!(kill(pid, None), Ok(()), "it was ended");
    fs::write(dir.path().join("go"), "").unwrap();
    until(|| dir.path().join("whole").exists()).await;
    let whole = fs::read(dir.path().join("whole")).unwrap();
    assert_eq!(whole.len(), large.len() - 23_000, "cut off");
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_it_started_whatever_it_ignores() {
    let dir = scratch();
    for (round, trap) in ["", "trap '' TERM HUP INT;"].into_iter().enumerate() {
        let text = format!(
            "cd ${{0%/*}}; {trap} echo dying words >&2; sh -c \"{trap} echo \\$\\$ > child{round}; while :; do sleep 0.1; done\" &\n\
             echo $$ > parent{round}; while :; do sleep 0.1; done"
        );
        let target = within(script(dir.path(), &text), Duration::from_millis(800));
        let outcome = one(&target, HELLO).await.unwrap();
        assert_eq!(outcome, Outcome::Later("gave up after 0.8s waiting for sh: dying words".into()));
        for name in ["parent", "child"] {
            let pid = pid(&dir.path().join(format!("{name}{round}")));
            until(|| kill(pid, None) == Err(Errno::ESRCH)).await;
        }
    }
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_ended() {
    let dir = scratch();
    let text =
        "cd ${0%/*}; trap '' TERM; echo $$ > parent.new; mv parent.new parent; while :; do sleep 0.1; done";
    let disk = Disk::new();
    let sink = open(&script(dir.path(), text), &disk).await.unwrap();
    let messages = [("1", HELLO)];
    let mut commit = Box::pin(deliver(&sink, &messages));
    let started = async { until(|| dir.path().join("parent").exists()).await };
    tokio::select! {
        outcome = &mut commit => panic!("{outcome:?}"),
        () = started => {}
    }
    drop(commit);
    // As the program does before it ends.
    disk.settled().await;
    assert_eq!(kill(pid(&dir.path().join("parent")), None), Err(Errno::ESRCH));
}

#[tokio::test]
async fn a_command_that_cannot_be_run_fails_the_target_and_says_what_to_do() {
    let dir = scratch();
    fs::write(dir.path().join("plain"), "#!/bin/sh\n").unwrap();
    fs::write(dir.path().join("no-interpreter"), "#!/nowhere/sh\n").unwrap();
    fs::set_permissions(dir.path().join("no-interpreter"), fs::Permissions::from_mode(0o755)).unwrap();
    for (pipe, what, hint) in [
        ("[/nowhere/mda, x]", "cannot run /nowhere/mda: No such file", "install it"),
        ("[no-such-mda-anywhere]", "cannot run no-such-mda-anywhere: No such file", "install it"),
        ("[DIR/plain]", "Permission denied", "not executable"),
        ("[DIR/no-interpreter]", "No such file", "install it"),
        ("no-such-mda-anywhere -d alice", "sh exited with 127", "in full"),
        ("{ command: 'true', user: no-such-user }", "there is no user no-such-user", "after `user:`"),
    ] {
        let error = one(&configured(dir.path(), pipe), HELLO).await.unwrap_err();
        assert!(error.to_string().contains(what), "{pipe}: {error}");
        assert!(error.hint().is_some_and(|found| found.contains(hint)), "{pipe}: {:?}", error.hint());
    }
}

#[tokio::test]
async fn a_message_that_makes_the_shell_unable_to_run_a_program_is_put_off_and_stops_no_other() {
    let dir = scratch();
    // More than the system takes for one argument.
    let long = [HELLO, &b"0123456789abcdef\r\n".repeat(20_000)].concat();
    let pipe = "'text=$(cat); /bin/echo \"$text\" > DIR/$POSTRIDER_UID'";
    let sink = open(&configured(dir.path(), pipe), &Disk::new()).await.unwrap();
    let outcomes = deliver(&sink, &[("1", &long), ("2", HELLO)]).await.unwrap();
    let [Outcome::Later(reason), Outcome::Delivered] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(reason.contains("sh exited with 126") && reason.contains("too long"), "{reason}");
}

#[tokio::test]
async fn messages_before_the_one_that_failed_the_target_are_told_as_delivered() {
    let dir = scratch();
    let mda = dir.path().join("mda");
    fs::write(&mda, "#!/bin/sh\n[ \"$POSTRIDER_UID\" != 2 ] || rm $0\n").unwrap();
    fs::set_permissions(&mda, fs::Permissions::from_mode(0o755)).unwrap();
    let sink = open(&configured(dir.path(), "[DIR/mda]"), &Disk::new()).await.unwrap();
    let outcomes = deliver(&sink, &[("1", HELLO), ("2", HELLO), ("3", HELLO), ("4", HELLO)]).await.unwrap();
    let [Outcome::Delivered, Outcome::Delivered, Outcome::Later(reason), Outcome::Later(_)] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("No such file"), "{reason}");
    assert!(deliver(&sink, &[("3", HELLO)]).await.is_err());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_message_that_cannot_be_spooled_starts_no_command() {
    let Some(spool) = alone("pipe::a_message_that_cannot_be_spooled_starts_no_command") else { return };
    let dir = scratch();
    let target = script(dir.path(), "touch ${0%/*}/started");
    let large = [HELLO, &b"More of it, and more\r\n".repeat(10_000)].concat();
    for (at, errno) in [(0, Errno::EIO), (1, Errno::EIO), (0, Errno::ENOSPC), (1, Errno::ENOSPC)] {
        let fault = Fault { at, errno, lasts: Lasts::Once };
        let watch = Watch::failing(&spool, fault);
        let sink = open(&target, &Disk::new()).await.unwrap();
        match (errno, deliver(&sink, &[("1", &large)]).await) {
            (Errno::EIO, Err(error)) => assert!(error.to_string().contains("os error 5"), "{error}"),
            (_, Ok(outcomes)) => {
                let [Outcome::Later(reason)] = &outcomes[..] else { panic!("{outcomes:?}") };
                assert!(reason.contains("No space left"), "{reason}");
            }
            (_, Err(error)) => panic!("{error}"),
        }
        assert!(!dir.path().join("started").exists());
        assert_eq!(deliver(&sink, &[("1", &large)]).await.unwrap(), [Outcome::Delivered]);
        fs::remove_file(dir.path().join("started")).unwrap();
        // What fits into memory needs no disk.
        drop(watch);
        let _watch = Watch::failing(&spool, fault);
        let sink = open(&target, &Disk::new()).await.unwrap();
        assert_eq!(deliver(&sink, &[("1", HELLO)]).await.unwrap(), [Outcome::Delivered]);
        fs::remove_file(dir.path().join("started")).unwrap();
    }
}

#[tokio::test]
async fn a_from_line_comes_first_if_it_is_asked_for_and_only_then() {
    let dir = scratch();
    let large = [HELLO, &b"More of it, and more\r\n".repeat(30_000)].concat();
    for message in [HELLO, &large] {
        let text = String::from_utf8(message.to_vec()).unwrap().replace("\r\n", "\n");
        for (key, lines) in [("true", 1), ("false", 0)] {
            let pipe = format!("{{ command: 'cat > DIR/message', from_line: {key} }}");
            assert_eq!(one(&configured(dir.path(), &pipe), message).await.unwrap(), Outcome::Delivered);
            let got = fs::read_to_string(dir.path().join("message")).unwrap();
            let rest = if lines == 1 { got.split_once('\n').unwrap().1 } else { &got };
            assert!(rest == text);
            assert_eq!(got.starts_with("From bob@example.org "), lines == 1);
        }
    }
}

#[tokio::test]
async fn as_root_a_command_is_run_as_the_user_that_was_named_with_no_group_of_ours() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can run a command as another user");
        return;
    }
    let dir = scratch();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mail = User::from_name("mail").unwrap().expect("Debian's user mail");
    let pipe = "{ command: 'id -u; id -g; id -G; echo $HOME $USER $LOGNAME; cat > DIR/message; exec >&2; exit 0', user: mail }";
    // A group of ours that it must not keep.
    nix::unistd::setgroups(&[nix::unistd::Gid::from_raw(0), nix::unistd::Gid::from_raw(4321)]).unwrap();
    let target = configured(
        dir.path(),
        &pipe.replace("id -u", "env > DIR/env; (id -u").replace("$LOGNAME;", "$LOGNAME; pwd) > DIR/facts;"),
    );
    // Something of ours that it must not get.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert_eq!(one(&target, HELLO).await.unwrap(), Outcome::Delivered);
    let facts = fs::read_to_string(dir.path().join("facts")).unwrap();
    let environment = fs::read_to_string(dir.path().join("env")).unwrap();
    let is_expected = |line: &str| {
        let (name, _) = line.split_once('=').unwrap();
        // The shell adds its own: PWD, OLDPWD, SHLVL and _.
        let whole =
            ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "SENDER", "RECIPIENT", "EXTENSION", "PWD", "OLDPWD"];
        whole.contains(&name)
            || ["LANG", "TZ", "SHLVL", "_"].contains(&name)
            || ["LC_", "POSTRIDER_"].iter().any(|prefix| name.starts_with(prefix))
    };
    assert!(environment.lines().all(is_expected), "{environment}");
    assert!(
        environment.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"),
        "{environment}"
    );
    let home = if mail.dir.is_dir() { mail.dir.display().to_string() } else { "/".into() };
    assert_eq!(
        facts.lines().collect::<Vec<_>>(),
        [
            mail.uid.to_string(),
            mail.gid.to_string(),
            mail.gid.to_string(),
            format!("{home} mail mail"),
            fs::canonicalize(&home).unwrap().display().to_string()
        ]
    );
    assert!(
        fs::read(dir.path().join("message")).unwrap().ends_with(b"Hello\n"),
        "the message could not be read"
    );
}

#[test]
fn facts_stand_where_no_shell_and_no_option_parser_can_read_them() {
    let dir = scratch();
    for (pipe, what) in [
        ("'mda %(from)'", "no %(from) in text for the shell: write \"$POSTRIDER_FROM\""),
        ("'mda \"%(extension)\"'", "write \"$EXTENSION\""),
        ("[mda, '-f%(from)']", "[1]: must have %(from) as an argument of its own"),
        ("[mda, 'x', '<%(to)>']", "[2]: must have %(to) as an argument of its own"),
        ("['%(from)', x]", "[0]: names no program"),
        ("[mda, '%(sender)']", "[1]: must be one of %(from), %(to)"),
        ("{ command: [mda, '%(From)'] }", "command[1]: must be one of"),
        ("{ timeout: 5m }", "needs `command`"),
        ("{ command: mda, timeout: 0s }", "pipe.timeout: must be above 0s"),
        ("{ command: mda, from_line: 1 }", "pipe.from_line: must be true or false"),
        ("{ command: mda, usr: x }", "did you mean `user`?"),
        ("[]", "is an empty list"),
        ("''", "is empty"),
    ] {
        let yaml =
            format!("state: /s\naccounts: {{ a: {{ host: h, user: u, deliver: {{ pipe: {pipe} }} }} }}\n");
        let error = Config::from_yaml(&yaml, &dir.path().join("c")).expect_err(pipe).to_string();
        assert!(error.contains(what), "{pipe}: {error}");
    }
    let Target::Pipe(pipe) = configured(dir.path(), "procmail -d alice") else { panic!() };
    assert_eq!(pipe.command, CommandLine::Shell("procmail -d alice".into()));
    assert_eq!((pipe.timeout, pipe.from_line, pipe.run_as), (Duration::from_secs(300), false, None));
}

fn pid(path: &Path) -> Pid {
    Pid::from_raw(fs::read_to_string(path).unwrap().trim().parse().unwrap())
}

/// Waits until something is so; panics if that takes long.
async fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it did not come to be");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_process_that_is_ended_got_its_grace() {
    let dir = scratch();
    let text = "cd ${0%/*}; trap 'echo tidy > tidied; exit 1' TERM; while :; do sleep 0.05; done";
    // Long enough for the shell to have set its trap on a busy machine. It says on standard error that sleep was ended.
    let target = within(script(dir.path(), text), Duration::from_secs(5));
    assert!(matches!(one(&target, HELLO).await.unwrap(), Outcome::Later(_)));
    assert!(dir.path().join("tidied").exists());
}
