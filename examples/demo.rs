//! The main job on an embedded default: a POP3 server over TLS on loopback, some mail in it, and one account that is
//! synced into a temporary maildir, twice.
//!
//! ```text
//! cargo run --release --example demo
//! ```

#[path = "../tests/support/certificate.rs"]
#[allow(dead_code, reason = "what tests use besides")]
mod certificate;
#[path = "../tests/support/maildrop.rs"]
#[allow(dead_code, reason = "what tests use besides")]
mod maildrop;
#[path = "demo/mails.rs"]
mod mails;
#[path = "../tests/support/wire.rs"]
#[allow(dead_code, reason = "what tests use besides")]
mod wire;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use postrider::testing::config::{Account, Interval, Password, Target, Tls, TlsMode};
use postrider::testing::secret::Secret;
use postrider::testing::session::{self, Environment, Limits, Progress, Report, Task};

use maildrop::{Maildrop, Settings};

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), Box<dyn Error>> {
    let settings = Settings { user: "alice".into(), password: "correct horse".into(), ..Settings::default() };
    let server = Maildrop::start(settings);
    for (number, mail) in mails::SAMPLES.iter().enumerate() {
        server.put(&format!("sample-{}", number + 1), mail.replace('\n', "\r\n"));
    }
    println!("server   pops://alice@127.0.0.1:{}, {} messages", server.port(), mails::SAMPLES.len());
    println!("         its certificate is its own; pinned as {}", server.certificate.pin());

    // Kept after the end, for you to look at.
    let directory = tempfile::Builder::new().prefix("postrider-demo-").tempdir()?.keep();
    let maildir = directory.join("Maildir");
    let state = directory.join("state.db");
    let account = account(&server, &maildir);
    println!("target   maildir:{}", maildir.display());

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let environment = Environment::new(state.clone());
    let run = |task| runtime.block_on(session::run(&account, &environment, task, &Told));

    println!("\nplan     (what `postrider sync --dry-run` would say)");
    for planned in succeeded(run(Task::DryRun(Limits::default())))?.planned {
        println!(
            "         {:<6} {:>6} octets  {:<10} {}",
            planned.action, planned.octets, planned.uid, planned.reason
        );
    }

    println!("\nsync");
    let report = succeeded(run(Task::Sync(Limits::default())))?;
    println!(
        "         {} messages, {} octets, durable in the maildir and recorded after {:.0?}",
        report.delivered, report.delivered_octets, report.took
    );

    println!("\nmaildir  {}", maildir.join("new").display());
    let files = listing(&maildir)?;
    for (name, subject) in &files {
        println!("         {name}\n             {subject}");
    }

    println!("\nsync     once more");
    let again = succeeded(run(Task::Sync(Limits::default())))?;
    println!(
        "         {} new of {} messages on the server",
        again.delivered,
        again.listed.unwrap_or_default()
    );
    runtime.shutdown_timeout(Duration::from_secs(1));

    if report.delivered != mails::SAMPLES.len() || files.len() != mails::SAMPLES.len() || again.delivered != 0
    {
        return Err("the maildir does not hold each message once".into());
    }
    println!("\nThe maildir stays in {}; look with `mutt -f {0}` or `ls`.", maildir.display());
    Ok(())
}

fn account(server: &Maildrop, maildir: &Path) -> Account {
    Account {
        host: "127.0.0.1".into(),
        port: server.port(),
        user: "alice".into(),
        maildrop_id: "alice@127.0.0.1".into(),
        tls: Tls { pins: vec![server.certificate.fingerprint()], ..Tls::bare(TlsMode::Implicit) },
        password: Some(Password::Literal(Secret::new(*b"correct horse"))),
        timeout: Duration::from_secs(10),
        interval: Interval::Manual,
        deliver: vec![Target::Maildir(maildir.to_owned()).into()],
        ..Account::new("demo")
    }
}

/// Prints the stages of a session.
struct Told;

impl Progress for Told {
    fn stage(&self, stage: &'static str) {
        println!("         {stage}");
    }
}

fn succeeded(report: Report) -> Result<Report, Box<dyn Error>> {
    match report.failure {
        Some(failure) => Err(failure.into()),
        None => Ok(report),
    }
}

/// Gives the maildir's new files by name, each with its subject.
fn listing(maildir: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(maildir.join("new"))? {
        let path = entry?.path();
        let mail = fs::read(&path)?;
        let header = String::from_utf8_lossy(&mail);
        let subject =
            header.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with("Subject:"));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, subject.unwrap_or("(no subject)").to_owned()));
    }
    files.sort();
    Ok(files)
}
