//! Connections without TLS, and where passwords come from.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use postrider::testing::config::{Account, CommandLine, Config, Password, Proxy, Reach};
use postrider::testing::credential::{self, CredentialError};
use postrider::testing::failure::Class;
use postrider::testing::net::{Connector, NetError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens, kept from others as long as the socket lives.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn octets_go_both_ways() {
    let (listener, port) = listener().await;
    let connector = Connector::default();
    let mut stream = connector.connect(&crate::account::plain("127.0.0.1", port)).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"+OK\r\n").await.unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"+OK\r\n");
    stream.write_all(b"QUIT\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    server.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"QUIT\r\n");
    assert_eq!(stream.tls(), None);
}

#[tokio::test]
async fn a_refused_connection_is_told_with_address_and_hint() {
    let (_closed, port) = closed_port();
    let error = Connector::default().connect(&crate::account::plain("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(error.to_string(), "connection refused by 127.0.0.1");
    assert_eq!((error.class(), error.doing().as_str()), (Class::Network, "connect"));
    assert!(error.hint().is_some_and(|hint| hint.contains("`port`")));
}

#[tokio::test]
async fn whoever_is_a_stranger_reaches_no_address_of_this_machine_by_any_of_its_names() {
    let (_listener, port) = listener().await;
    let stranger =
        |host: &str| Account { reach: Reach::Public([].into()), ..crate::account::plain(host, port) };
    for host in
        ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "017700000001", "0", "0.0.0.0", "::1"]
            .into_iter()
            .chain(["::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::7f00:1", "::"])
    {
        let error = Connector::default().connect(&stranger(host)).await.unwrap_err();
        assert!(matches!(error, NetError::Forbidden { .. }), "{host}: {error}");
        assert_eq!((error.class(), error.doing().as_str()), (Class::Network, "look up the host"));
        assert!(error.hint().unwrap().contains("allow_networks"));
    }
    // By a proxy either.
    let by_proxy = Account { proxy: Some(proxy(port)), ..stranger("127.1") };
    let error = Connector::default().connect(&by_proxy).await.unwrap_err();
    assert_eq!(error.to_string(), "127.1 is at 127.0.0.1, which is no address of the public Internet");
    let yaml = "fleet: { allow_networks: 127.0.0.0/8 }";
    let fleet = Config::from_yaml(yaml, Path::new("f")).unwrap().fleet.unwrap();
    let allowed = Account { reach: Reach::Public(fleet.allow_networks), ..stranger("127.1") };
    assert!(Connector::default().connect(&allowed).await.is_ok());
}

fn proxy(port: u16) -> Proxy {
    let yaml = format!(
        "accounts: {{ a: {{ host: h, user: u, deliver: {{ mbox: /m }}, proxy: 'socks5://127.0.0.1:{port}' }} }}"
    );
    let config = Config::from_yaml(&yaml, Path::new("f")).unwrap();
    config.accounts.into_iter().next().unwrap().proxy.unwrap()
}

#[tokio::test]
async fn an_unknown_host_is_told_by_name() {
    let error =
        Connector::default().connect(&crate::account::plain("no-such-host.invalid", 110)).await.unwrap_err();
    // Without a network the resolver cannot say whether the name exists.
    assert!(matches!(error, NetError::UnknownHost { .. } | NetError::Resolver { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    assert_eq!((error.class(), error.doing().as_str()), (Class::Network, "look up the host"));
}

#[tokio::test]
async fn a_name_with_a_dead_address_first_is_reached_by_the_second() {
    // Where localhost has ::1 too, that one refuses.
    let (listener, port) = listener().await;
    let stream = Connector::default().connect(&crate::account::plain("localhost", port)).await;
    assert!(stream.is_ok(), "{stream:?}");
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn a_connect_that_nobody_answers_ends_at_the_timeout() {
    // A listener whose queue is full lets a SYN go unanswered.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = silent.listen(1).unwrap();
    let mut account = crate::account::plain("127.0.0.1", silent.local_addr().unwrap().port());
    account.timeout = Duration::from_millis(200);
    let connector = Connector::default();
    let mut queued = Vec::new();
    let error = loop {
        match connector.connect(&account).await {
            Ok(stream) => queued.push(stream),
            Err(error) => break error,
        }
        assert!(queued.len() < 100, "the queue does not fill up");
    };
    assert_eq!(
        error.to_string(),
        "gave up after 200ms waiting for 127.0.0.1 to accept the connection",
        "{error:?}"
    );
}

#[tokio::test]
async fn the_source_address_is_the_configured_one() {
    let (listener, port) = listener().await;
    let mut account = crate::account::plain("127.0.0.1", port);
    account.bind = Some("127.0.0.5".parse().unwrap());
    let _stream = Connector::default().connect(&account).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5)));
}

#[tokio::test]
async fn a_source_address_that_cannot_be_used_is_told() {
    let mut account = crate::account::plain("127.0.0.1", 9);
    account.bind = Some("192.0.2.77".parse().unwrap());
    let error = Connector::default().connect(&account).await.unwrap_err();
    assert!(matches!(error, NetError::Bind { family: "IPv4", .. }), "{error:?}");
    account.bind = Some("::1".parse().unwrap());
    let error = Connector::default().connect(&account).await.unwrap_err();
    assert!(error.to_string().contains("that can be reached from ::1"), "{error}");
}

#[tokio::test]
async fn a_command_is_the_connection() {
    for line in [
        CommandLine::Argv(vec!["sed".into(), "-u".into(), "s/^/+OK /".into()]),
        CommandLine::Shell("sed -u 's/^/+OK /'".into()),
    ] {
        let mut account = crate::account::plain("pop.example.org", 110);
        account.connect = Some(line);
        let mut stream = Connector::default().connect(&account).await.unwrap();
        stream.write_all(b"NOOP\n").await.unwrap();
        stream.flush().await.unwrap();
        let mut reply = [0; 9];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"+OK NOOP\n");
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        read.expect("the command does not end").unwrap();
        assert_eq!(rest, b"", "closed input ends the command, and that is no error after it has spoken");
    }
}

#[tokio::test]
async fn a_command_that_ends_before_the_server_speaks_is_told_with_its_last_words() {
    let mut account = crate::account::plain("pop.example.org", 110);
    account.connect = Some(CommandLine::Shell("echo trying >&2; echo 'no route\x1b' >&2; exit 255".into()));
    let mut stream = Connector::default().connect(&account).await.unwrap();
    let error = NetError::of_traffic(stream.read_u8().await.unwrap_err());
    assert_eq!(error.to_string(), "the connect command ended: no route\\u{1b}");
    assert_eq!(error.class(), Class::Network);
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told() {
    let mut account = crate::account::plain("pop.example.org", 110);
    account.connect = Some(CommandLine::Argv(vec!["/no/such/program".into()]));
    let error = Connector::default().connect(&account).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot start the connect command /no/such/program: "), "{error}");
}

#[tokio::test]
async fn a_command_and_what_it_started_end_with_the_stream() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("alive");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Both the shell and its child hold the pipe open; it ends when both are gone.
    let text = format!("exec 9>{}; sleep 600 & echo +OK; wait", fifo.display());
    let mut account = crate::account::plain("pop.example.org", 110);
    account.connect = Some(CommandLine::Shell(text));
    let mut stream = Connector::default().connect(&account).await.unwrap();
    let mut alive = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).await.unwrap();
    drop(stream);
    let ended = tokio::time::timeout(Duration::from_secs(10), alive.read_u8()).await;
    assert_eq!(ended.expect("they live on").unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

async fn password(source: Password) -> Result<String, CredentialError> {
    let secret = credential::password(&source, "pop.example.org", "alice", Duration::from_secs(5)).await?;
    Ok(String::from_utf8_lossy(secret.reveal()).into_owned())
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_password_comes_from_a_commands_output() {
    let shell = |text: &str| Password::Command(CommandLine::Shell(text.into()));
    assert_eq!(password(shell("printf 's3 cret\\n'")).await.unwrap(), "s3 cret");
    let argv = CommandLine::Argv(vec!["printf".into(), "%s".into(), "$HOME;".into()]);
    assert_eq!(password(Password::Command(argv)).await.unwrap(), "$HOME;");
    // Standard input is empty, so that no command waits for it.
    assert_eq!(password(shell("cat; echo x")).await.unwrap(), "x");
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_the_first_line_it_said() {
    let shell = |text: &str| Password::Command(CommandLine::Shell(text.into()));
    let error = password(shell("echo s3cret; echo 'gpg: no\x1bkey' >&2; echo more >&2; exit 2")).await;
    let text = error.unwrap_err().to_string();
    assert_eq!(text, "the password command echo failed (exit status: 2): gpg: no\\u{1b}key");
    assert!(matches!(password(shell("true")).await, Err(CredentialError::Empty { .. })));
    assert!(matches!(password(shell("yes | head -c 10000000")).await, Err(CredentialError::TooLong { .. })));
    let missing = Password::Command(CommandLine::Argv(vec!["/no/such/program".into()]));
    assert!(matches!(password(missing).await, Err(CredentialError::Start { .. })));
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("alive");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut alive = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
    let text = format!("exec 9>{}; echo x >&9; sleep 600 & wait", fifo.display());
    let source = Password::Command(CommandLine::Shell(text));
    let patience = Duration::from_secs(1);
    let error = credential::password(&source, "h", "u", patience).await.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 1s waiting for the password command exec");
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), alive.read_to_end(&mut said)).await;
    ended.expect("they live on").unwrap();
    assert_eq!(said, b"x\n");
}

#[tokio::test]
async fn what_a_command_leaves_running_does_not_hold_up_its_password() {
    let begun = Instant::now();
    let source = Password::Command(CommandLine::Shell("sleep 4 & echo s3cret".into()));
    assert_eq!(password(source).await.unwrap(), "s3cret");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_password_comes_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    write(&path, "s3cret\r\n", 0o600);
    assert_eq!(password(Password::File(path.clone())).await.unwrap(), "s3cret");
    write(&path, "", 0o600);
    assert!(matches!(password(Password::File(path)).await, Err(CredentialError::Empty { .. })));
    let missing = password(Password::File("/no/such/file".into())).await.unwrap_err();
    assert!(missing.to_string().starts_with("cannot read the password from /no/such/file: "), "{missing}");
}

#[tokio::test]
async fn a_password_comes_from_netrc_by_host_and_user() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netrc");
    write(&path, "machine pop.example.org login bob password b login\n", 0o600);
    assert!(matches!(
        password(Password::Netrc(path.clone())).await,
        Err(CredentialError::Netrc { line: 1, .. })
    ));
    write(
        &path,
        "machine pop.example.org\n login bob password b\nmachine pop.example.org login alice password a\n",
        0o600,
    );
    assert_eq!(password(Password::Netrc(path.clone())).await.unwrap(), "a");
    write(&path, "machine pop.example.org login bob password b\n", 0o600);
    let error = password(Password::Netrc(path)).await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot find a password of alice for pop.example.org in "),
        "{error}"
    );
}

#[tokio::test]
async fn a_password_comes_from_the_environment() {
    let path = std::env::var("PATH").unwrap();
    assert_eq!(password(Password::Env("PATH".into())).await.unwrap(), path);
    let error = password(Password::Env("POSTRIDER_NO_SUCH_VARIABLE".into())).await.unwrap_err();
    assert!(matches!(error, CredentialError::NotSet { .. }), "{error:?}");
}
