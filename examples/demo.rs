//! The main job on an embedded default: a POP3 server over TLS on loopback, some mail in it, and one account that is
//! synced into a temporary maildir: once, once more, and once with its state file lost.
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
#[path = "demo/screen.rs"]
mod screen;
#[path = "../tests/support/wire.rs"]
#[allow(dead_code, reason = "what tests use besides")]
mod wire;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use postrider::testing::config::{Account, Interval, Password, Target, Tls, TlsMode};
use postrider::testing::secret::Secret;
use postrider::testing::session::{self, Activity, Environment, Limits, Octets, Progress, Report, Task};

use maildrop::{Maildrop, Settings};
use screen::{Done, Style};

fn main() -> ExitCode {
    match demo(Style::of_standard_output()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(style: Style) -> Result<(), Box<dyn Error>> {
    let (server, mails) = filled();
    let heading = |label: &str| style.bold(&format!("{label:<9}"));
    println!("{}pops://alice@127.0.0.1:{}, {} messages", heading("server"), server.port(), mails.len());

    // Kept after the end, for you to look at.
    let directory = tempfile::Builder::new().prefix("postrider-demo-").tempdir()?.keep();
    let maildir = directory.join("Maildir");
    let account = account(&server, &maildir);
    println!("{}maildir:{}", heading("target"), maildir.display());

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let environment = Environment::new(directory.join("state.db"));
    let run = |task, progress| runtime.block_on(session::run(&account, &environment, task, progress));

    println!("\n{}what `postrider sync --dry-run` says of the first of them", heading("plan"));
    let planned = succeeded(run(Task::DryRun(Limits::default()), &Quiet))?.planned;
    for (planned, mail) in planned.iter().zip(mails::SAMPLES) {
        println!(
            "         {} {} ({}): {}, {:?}",
            planned.action,
            planned.uid,
            Octets(planned.octets),
            planned.reason,
            subject(mail)
        );
    }

    println!("\n{}what it waits for, in its own words", heading("sync"));
    let report = succeeded(run(Task::Sync(Limits::default()), &Told))?;
    compare(&mails, &maildir)?;
    let again = succeeded(run(Task::Sync(Limits::default()), &Quiet))?;

    // The maildir is its own journal.
    let forgetful = Environment::new(directory.join("another-state.db"));
    let lost = succeeded(runtime.block_on(session::run(
        &account,
        &forgetful,
        Task::Sync(Limits::default()),
        &Quiet,
    )))?;
    compare(&mails, &maildir)?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    let counted = (report.delivered, again.delivered, lost.delivered, lost.already_there);
    if counted != (mails.len(), 0, 0, mails.len()) {
        return Err("the maildir does not hold each message once".into());
    }
    let done = Done {
        messages: report.delivered,
        octets: report.delivered_octets,
        took: report.took,
        idle: again.took,
        recognized: lost.already_there,
        maildir: &maildir,
    };
    print!("\n{}", screen::last(&done, style));
    Ok(())
}

/// Starts a server, and gives the mails in it.
fn filled() -> (Maildrop, Vec<String>) {
    let settings = Settings { user: "alice".into(), password: "correct horse".into(), ..Settings::default() };
    let server = Maildrop::start(settings);
    let mut mails: Vec<String> = mails::SAMPLES.iter().map(|mail| (*mail).to_owned()).collect();
    mails.extend(mails::list());
    for (number, mail) in mails.iter().enumerate() {
        server.put(&format!("mail-{}", number + 1), mail.replace('\n', "\r\n"));
    }
    (server, mails)
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

/// Prints what a session does.
struct Told;

impl Progress for Told {
    fn doing(&self, activity: Activity) {
        println!("         {activity}");
    }
}

/// Prints nothing.
struct Quiet;

impl Progress for Quiet {}

fn succeeded(report: Report) -> Result<Report, Box<dyn Error>> {
    match report.failure {
        Some(failure) => Err(failure.into()),
        None => Ok(report),
    }
}

fn subject(mail: &str) -> &str {
    let header = mail.lines().take_while(|line| !line.is_empty());
    header.filter_map(|line| line.strip_prefix("Subject: ")).next().unwrap_or("no subject")
}

/// Says if the maildir does not hold each of these messages once, octet by octet, and nothing else.
fn compare(mails: &[String], maildir: &Path) -> Result<(), Box<dyn Error>> {
    let mut missing: BTreeMap<&[u8], usize> = BTreeMap::new();
    for mail in mails {
        *missing.entry(mail.as_bytes()).or_default() += 1;
    }
    for entry in fs::read_dir(maildir.join("new"))? {
        let path = entry?.path();
        let found = fs::read(&path)?;
        match missing.get_mut(found.as_slice()) {
            Some(count) if *count > 0 => *count -= 1,
            _ => return Err(format!("{} is no message of the server, or there twice", path.display()).into()),
        }
    }
    match missing.values().sum() {
        0 => Ok(()),
        count => Err(format!("{count} messages of the server are missing").into()),
    }
}
