//! The commands by which docs/fleet.md sets a fleet up, as they stand there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::support::daemon::SOON;
use crate::support::http_server::{HttpServer, answer};
use crate::support::postgres::Postgres;
use crate::support::process::{Running, wait_until};
use crate::support::provider::Provider;

/// What the machine of these commands has: an /etc of its own, a database where Debian has it, the program, and a systemctl that
/// writes down what it is told, and starts what the unit starts as whom it says.
const MACHINE: &str = r#"set -e
cp -a /etc "$0/etc"
echo postrider:x:64123:64123::/var/lib/postrider:/usr/sbin/nologin >>"$0/etc/passwd"
mount --bind "$0/etc" /etc
mkdir -p /run/postgresql
mount --bind "$1" /run/postgresql
mount --bind "$2" "$0/bin/postrider"
export PATH="$0/bin:$PATH" TOLD="$0/told" PGHOST=/run/postgresql
cd "$0/site"
. "$0/commands"
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >"$TOLD"
unit=/etc/systemd/system/postrider-worker@.service
exec runuser -u "$(sed -n s/^User=//p $unit)" -- $(sed -n s/^ExecStart=//p $unit)
"#;

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_ten_commands_of_the_manual_set_up_a_worker() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/fleet.md")).unwrap();
    let commands = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(commands.lines().count(), 10, "{commands}");
    let server = Postgres::start(0, "");
    // The user of that name is to be made, by who is the database's owner on a machine.
    server.execute("postgres", "CREATE ROLE postgres SUPERUSER LOGIN");
    let socket = server.socket().0;
    let rename =
        format!("psql -X -h {} -d postgres -c 'ALTER ROLE postrider RENAME TO first'", socket.display());
    let renamed =
        Command::new("runuser").args(["-u", "postgres", "--", "sh", "-c", &rename]).output().unwrap();
    assert!(renamed.status.success(), "{renamed:?}");
    fs::set_permissions(socket, Permissions::from_mode(0o755)).unwrap();

    let (provider, receiver) = (Provider::start(), HttpServer::start(|_| answer(204)));
    provider.put("alice", "1", "Message-ID: <1@a>\r\nDate: b\r\n\r\nc\r\n");
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    fs::set_permissions(at, Permissions::from_mode(0o755)).unwrap();
    let unit = fs::read_to_string(root.join("contrib/fleet/postrider-worker@.service")).unwrap();
    write(&at.join("site/postrider-worker@.service"), &unit, 0o644);
    let config = fs::read_to_string(root.join("contrib/fleet/worker.yaml")).unwrap();
    let own = config.replace("https://desk.example.org/inbound", &receiver.url("/in"));
    let own = own.replace("fleet:\n", "fleet:\n  allow_networks: [127.0.0.0/8]\n");
    assert_eq!(own.lines().count(), config.lines().count() + 1);
    write(&at.join("site/worker.yaml"), &own.replace("127.0.0.1:9110", "none"), 0o644);
    let alice = page.split("`alice.json` is an account: `").nth(1).unwrap().split('`').next().unwrap();
    let here = format!(
        "\"host\": \"127.0.0.1\", \"port\": {}, \"tls\": \"none\", \"auth\": [\"user-pass\"]",
        provider.port()
    );
    write(&at.join("site/alice.json"), &alice.replace("\"host\": \"pop.example.org\"", &here), 0o600);
    write(&at.join("commands"), &format!("set -e\n{commands}"), 0o644);
    write(&at.join("bin/systemctl"), SYSTEMCTL, 0o755);
    write(&at.join("bin/postrider"), "", 0o755);

    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", MACHINE]).arg(at).arg(socket).arg(env!("CARGO_BIN_EXE_postrider"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut running = Running::start(&mut command);
    let told = || fs::read_to_string(at.join("told")).unwrap_or_default();
    let ended = !wait_until(SOON, || !told().is_empty() || !running.is_running()) || !running.is_running();
    assert!(!ended, "{:?}", running.wait(Duration::from_secs(1)));
    assert_eq!(told(), "enable --now postrider-worker@1\n");
    // A worker's name is the machine's and its process's.
    let worker = || server.execute("postrider", "SELECT name FROM worker WHERE NOT draining");
    let process = || worker().rsplit(':').next().and_then(|id| id.parse().ok());
    wait_until(SOON, || process().is_some() || !running.is_running());
    if let Some(process) = process() {
        kill(Pid::from_raw(process), Signal::SIGTERM).unwrap();
    }
    let ended = running.wait(SOON);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(receiver.asked().len(), 1, "{ended:?}");
    assert_eq!(receiver.asked()[0].field("x-postrider-account"), "acme/alice");
}
