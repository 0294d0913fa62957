//! Log-ins that the server refused, from poll to poll: when the next one is tried, and what is said of them.

use crate::support::dialogue::*;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A server without TLS and CAPA that answers PASS with this line; once it is known, with these commands.
fn answers(line: &str) -> String {
    format!(
        "S: +OK\nC: CAPA\nS: -ERR what?\nC: USER alice\nS: +OK\nC: PASS correct horse\nS: {line}\n!expect-close"
    )
}

const PLAIN: &str = "tls: none\nauth: [user-pass]";

#[test]
fn a_refused_log_in_waits_a_quarter_of_an_hour_twice_and_then_an_hour_whatever_the_server_said() {
    for (line, status) in [
        ("-ERR [AUTH] no", 77),
        ("-ERR no", 77),
        ("-ERR can't lock mailbox file", 75),
        ("-ERR [IN-USE] busy", 75),
        ("-ERR internal server error", 75),
    ] {
        let refuses = answers(line);
        let refuses = refuses.as_str();
        let (server, home) = scripted(&[&[refuses], &[refuses], &[refuses], &[refuses]], PLAIN);
        // Each that logs in finds its script, and the others none: the server has four.
        for (at, tries, command) in [
            (0, true, "sync"),
            (5, false, "sync"),
            (10, false, "check"),
            (14, false, "sync"),
            (16, true, "check"),
            (20, false, "sync"),
            (32, true, "sync"),
            (48, false, "sync"),
            (91, false, "sync"),
            (93, true, "sync"),
            (100, false, "check"),
        ] {
            let ended = home.must_at(at * MINUTE, &[command, "-v"], status);
            let said = line.strip_prefix("-ERR ").unwrap();
            assert!(ended.stderr.contains(&format!("server: {said}")), "{at}: {}", ended.stderr);
            assert_eq!(ended.stderr.contains("not tried"), !tries, "{at}: {}", ended.stderr);
        }
        server.finish();
    }
}

#[test]
fn force_has_one_try_in_sync_and_check() {
    let refuses = answers("-ERR no");
    let accepts =
        answers("+OK").replace("!expect-close", "C: UIDL\nS: +OK\nS: .\nC: LIST\nS: +OK\nS: .\nC: QUIT");
    let (refuses, accepts) = (refuses.as_str(), accepts.as_str());
    let (server, home) = scripted(&[&[refuses], &[refuses], &[accepts], &[refuses]], PLAIN);
    home.must(&["sync"], 77);
    let ended = home.must(&["sync", "test", "-v"], 77);
    assert!(ended.stderr.contains("not tried"), "nobody is at a terminal: {}", ended.stderr);
    let ended = home.must(&["sync", "--force"], 77);
    assert!(ended.stderr.contains("log in as alice"), "it is no news, and told: {}", ended.stderr);
    home.must(&["check", "--force"], 1);
    // What worked is forgotten as refused, by a look too.
    let ended = home.must(&["sync"], 75);
    assert!(!ended.stderr.contains("not tried"), "{}", ended.stderr);
    server.finish();
}

#[test]
fn a_person_who_names_the_account_on_a_terminal_has_one_try() {
    let refuses = answers("-ERR no");
    let refuses = refuses.as_str();
    let (server, home) = scripted(&[&[refuses], &[refuses]], PLAIN);
    home.must(&["sync"], 77);
    for (arguments, tried) in [("sync", false), ("sync test", true)] {
        let program = home.command(&[]);
        let line = format!("{} {arguments}", program.get_program().to_str().unwrap());
        let mut terminal = std::process::Command::new("script");
        terminal
            .args(["-qec", &line, "/dev/null"])
            .env_clear()
            .env("TERM", "xterm")
            .stdin(std::process::Stdio::null());
        terminal.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ended =
            crate::support::process::Running::start(&mut terminal).wait(crate::support::postrider::LIMIT);
        assert_eq!(ended.stdout.contains("not tried"), !tried, "{arguments}: {}", ended.stdout);
    }
    server.finish();
}

#[test]
fn a_refusal_of_a_wrong_clock_keeps_nobody_waiting() {
    let refuses = answers("-ERR no");
    let refuses = refuses.as_str();
    let (server, home) = scripted(&[&[refuses], &[refuses]], PLAIN);
    home.must_at(365 * DAY, &["sync"], 77);
    let ended = home.must(&["sync"], 77);
    assert!(!ended.stderr.contains("not tried"), "{}", ended.stderr);
    server.finish();
}

#[test]
fn a_refusal_of_what_worked_within_the_day_is_not_a_wrong_password_before_the_third() {
    let refuses = answers("-ERR [AUTH] no").replace("C: CAPA\nS: -ERR what?\n", "");
    let accepts =
        answers("+OK").replace("!expect-close", "C: UIDL\nS: +OK\nS: .\nC: LIST\nS: +OK\nS: .\nC: QUIT");
    let (accepts, refuses) = (accepts.as_str(), refuses.as_str());
    let sessions: [&[&str]; 4] = [&[accepts], &[refuses], &[refuses], &[refuses]];
    let (server, home) = scripted(&sessions, PLAIN);
    home.must(&["sync"], 0);
    for (at, status) in
        [(HOUR, 75), (HOUR + 5 * MINUTE, 75), (HOUR + 16 * MINUTE, 75), (HOUR + 32 * MINUTE, 77)]
    {
        home.must_at(at, &["sync"], status);
    }
    server.finish();
}

#[test]
fn a_server_that_announces_stls_and_refuses_without_it_is_no_matter_of_the_password_whatever_it_says() {
    for (announced, hint) in [
        ("S: SASL\nS: STLS\n", "write `tls: starttls` (without it, it announces no PLAIN)"),
        ("S: STLS\nS: USER\n", "write `tls: starttls` (without it, it announces no PLAIN)"),
        ("S: SASL PLAIN\nS: STLS\n", "write `tls: starttls`; if that is not it, check user and password"),
    ] {
        let script = format!(
            "S: +OK\nC: CAPA\nS: +OK\n{announced}S: .\nC: AUTH PLAIN *\nS: -ERR not permitted\n!expect-close"
        );
        let (server, home) = scripted(&[&[&script]], "tls: none\nauth: [plain]");
        let said = home.must(&["sync"], 77).stderr;
        assert!(said.contains("the server announces STLS, and may want it before any log-in"), "{said}");
        assert!(said.contains(hint) && !said.contains("USER/PASS"), "{said}");
        // Who asks again hears no more of the password than of TLS.
        let said = home.must(&["sync", "-v"], 77).stderr;
        assert!(said.contains("not tried") && said.contains("(`tls: starttls`)"), "{said}");
        server.finish();
    }
}

#[test]
fn what_was_refused_for_want_of_tls_or_of_a_mechanism_is_not_the_password() {
    let stls =
        answers("-ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.");
    let (server, home) = scripted(&[&[&stls]], PLAIN);
    let ended = home.must(&["sync"], 77);
    assert!(
        ended.stderr.contains("hint: the server wants TLS before a log-in: write `tls: starttls`"),
        "{}",
        ended.stderr
    );
    server.finish();

    for (announced, hint) in [
        ("S: STLS\n", "the server wants TLS before a log-in: write `tls: starttls`;"),
        ("", "the server wants TLS before a log-in, and announces no STLS: write `tls: implicit`;"),
    ] {
        let refuses = stls.replace("S: -ERR what?\n", &format!("S: +OK\nS: USER\n{announced}S: .\n"));
        let (server, home) = scripted(&[&[&refuses]], PLAIN);
        let said = home.must(&["sync"], 77).stderr;
        assert!(said.contains(hint) && !said.contains("check user and password"), "{said}");
        let said = home.must(&["sync", "-v"], 77).stderr;
        assert!(said.contains("write `tls: starttls` or `tls: implicit`;"), "{said}");
        server.finish();
    }

    let no_plain = "
        S: +OK
        C: CAPA
        S: +OK
        S: USER
        S: SASL LOGIN
        S: .
        C: AUTH PLAIN *
        S: -ERR unknown mechanism
        !expect-close
    ";
    let (server, home) = scripted(&[&[no_plain]], "tls: none\nauth: [plain]");
    let ended = home.must(&["sync"], 77);
    assert!(
        ended.stderr.contains("does not announce PLAIN, which `auth` asks for, but LOGIN, USER/PASS: write `auth: [login, user-pass]`"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("check user and password"), "{}", ended.stderr);
    server.finish();
}

#[test]
fn what_a_connect_command_wrote_before_it_ended_is_told_with_and_without_tls() {
    for keys in [PLAIN, ""] {
        let connect = "connect: [sh, -c, \"sleep 0.1; echo 'E connect(8, 16): No route' >&2; exit 1\"]";
        let (server, home) = scripted(&[], &format!("{keys}\n{connect}"));
        let ended = home.must(&["sync"], 75);
        assert!(
            ended.stderr.contains("the connect command ended: E connect(8, 16): No route"),
            "{}",
            ended.stderr
        );
        server.finish();
    }
}
