//! Mail servers as targets of whole polls: what OpenSMTPD, Courier, sendmail, Postfix under limits and Cyrus make of it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use postrider::testing::config::{Config, Target};
use postrider::testing::failure::Class;

use crate::support::chrooted_mta::ChrootedMta;
use crate::support::cyrus::Cyrus;
use crate::support::maildrop::{Maildrop, Protection, Settings, What};
use crate::support::mta::{DOMAIN, Mta};
use crate::support::poller::Poller;
use crate::support::process::wait_until;
use crate::support::real_server::{RealServer, USER};

fn target(deliver: &str) -> Target {
    let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {deliver}}}}}");
    let config = Config::from_yaml(&yaml, Path::new("config.yaml")).unwrap_or_else(|error| panic!("{error}"));
    config.accounts.into_iter().next().unwrap().deliver.remove(0).target
}

fn message(number: usize) -> String {
    format!(
        "Return-Path: <alice@example.net>\r\nSubject: {number}\r\nX-Number: {number}.\r\n\r\n.\r\n..x\r\n"
    )
}

/// A maildrop and an account that delivers to a mail server on loopback.
struct Way {
    maildrop: Maildrop,
    poller: Poller,
}

impl Way {
    fn to(target: Target) -> Self {
        // What is asked for is what the target had room for.
        let settings = Settings { tls: Protection::None, ..Settings::default() };
        let maildrop = Maildrop::start(settings.without("PIPELINING"));
        let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
        poller.account.deliver = vec![target.into()];
        Self { maildrop, poller }
    }

    fn by_smtp(port: u16) -> Self {
        Self::to(target(&format!("{{ smtp: {{ host: 127.0.0.1, port: {port}, to: [box@{DOMAIN}] }} }}")))
    }

    fn put(&self, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| self.maildrop.put(&number.to_string(), message(number)));
    }

    /// Polls, which must deliver everything.
    fn must_deliver_all(&self) {
        let all = self.maildrop.uids().len();
        let report = self.poller.must();
        assert_eq!((report.delivered, report.held), (all, 0), "{report:?}");
    }

    /// Polls, which the target must end, without a message held; gives how many were delivered.
    fn must_be_put_off(&self) -> usize {
        let report = self.poller.poll();
        let failure = report.failure.as_ref().expect("the target has enough");
        assert_eq!(failure.class, Class::Target, "{failure}");
        assert_eq!((report.held, report.newly_held), (0, 0), "{report:?}");
        report.delivered
    }

    fn retrieved(&self) -> usize {
        self.maildrop.count(|what| matches!(what, What::Command(line) if line.starts_with("RETR")))
    }
}

/// Each message is there, and none twice.
fn assert_each_once(arrived: &[String], numbers: std::ops::Range<usize>) {
    assert_eq!(arrived.len(), numbers.len());
    for number in numbers {
        let mark = format!("X-Number: {number}.");
        assert_eq!(arrived.iter().filter(|text| text.contains(&mark)).count(), 1, "{mark}");
    }
}

#[test]
fn opensmtpd_takes_more_than_a_hundred_messages() {
    let mta = ChrootedMta::opensmtpd();
    let way = Way::by_smtp(mta.port);
    way.put(0..230);
    way.must_deliver_all();
    assert_each_once(&mta.arrived(230), 0..230);
}

#[test]
fn couriers_esmtpd_takes_all_messages_without_a_wait_of_minutes() {
    let mta = ChrootedMta::courier();
    let way = Way::by_smtp(mta.port);
    way.put(0..20);
    let began = Instant::now();
    way.must_deliver_all();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    way.put(20..40);
    way.must_deliver_all();
    assert_each_once(&mta.arrived(40), 0..40);
}

#[test]
fn sendmail_takes_all_messages() {
    let mta = ChrootedMta::sendmail();
    let way = Way::by_smtp(mta.port);
    way.put(0..40);
    way.must_deliver_all();
    assert_each_once(&mta.arrived(40), 0..40);
}

#[test]
fn postfix_under_a_rate_limit_gets_what_it_takes_and_holds_nothing() {
    let mta = Mta::postfix_with(&[], |name, text| match name {
        "main.cf" => {
            text + "smtpd_client_message_rate_limit = 10\nsmtpd_client_event_limit_exceptions =\n\
                    anvil_rate_time_unit = 10s\n"
        }
        _ => text,
    });
    let way = Way::by_smtp(mta.port);
    way.put(0..25);
    let began = Instant::now();
    let mut delivered = way.must_be_put_off();
    assert_eq!(delivered, 10, "{}", mta.log());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let all = wait_until(Duration::from_secs(60), || {
        let report = way.poller.poll();
        assert_eq!(report.held, 0, "{report:?}");
        delivered += report.delivered;
        way.maildrop.uids().is_empty()
    });
    assert!(all && delivered == 25, "{delivered} delivered");
    assert_eq!(mta.mailbox("box", 25).len(), 25);
}

#[test]
fn postfix_with_a_broken_map_ends_the_poll_and_holds_nothing() {
    let mta = Mta::postfix_with(&[], |name, text| match name {
        "main.cf" => text + "smtpd_sender_restrictions = check_recipient_access hash:/nonexistent/map\n",
        _ => text,
    });
    let way = Way::by_smtp(mta.port);
    way.put(0..200);
    assert_eq!(way.must_be_put_off(), 0, "{}", mta.log());
    assert!(way.retrieved() < 100, "{} messages fetched", way.retrieved());
    assert_eq!(way.maildrop.uids().len(), 200);
}

#[test]
fn postscreen_lets_the_second_poll_pass_and_the_first_holds_nothing() {
    let mta = Mta::postfix_with(&[], |name, text| match name {
        "main.cf" => {
            text + "postscreen_access_list =\npostscreen_greet_wait = 1s\npostscreen_pipelining_enable = yes\n\
                    postscreen_non_smtp_command_enable = yes\npostscreen_bare_newline_enable = yes\n"
        }
        _ => {
            text.replace(" inet n - n - - smtpd", " inet n - n - 1 postscreen")
                + "smtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n"
        }
    });
    let way = Way::by_smtp(mta.port);
    way.put(0..20);
    assert_eq!(way.must_be_put_off(), 0, "{}", mta.log());
    way.must_deliver_all();
    assert_eq!(mta.mailbox("box", 20).len(), 20);
}

#[test]
fn postfix_lets_in_whom_a_client_certificate_names_from_the_address_that_bind_says() {
    let mta = Mta::postfix_with(&[], |name, text| match name {
        "main.cf" => {
            let own = text.split("smtpd_tls_cert_file = ").nth(1).and_then(|rest| rest.lines().next());
            let authority = own.expect("a certificate").replace("certificate.pem", "authority.pem");
            text.replace("smtpd_tls_security_level = may", "smtpd_tls_security_level = encrypt")
                + &format!("smtpd_tls_req_ccert = yes\nsmtpd_tls_CAfile = {authority}\n")
        }
        _ => text,
    });
    let way = |keys: &str| {
        Way::to(target(&format!(
            "{{ smtp: {{ host: 127.0.0.1, port: {}, to: [box@{DOMAIN}], tls: starttls, tls_min: '1.3', tls_pin: {}{keys} }} }}",
            mta.port,
            mta.certificate.pin()
        )))
    };
    let without = way("");
    without.put(0..1);
    without.must_be_put_off();
    let directory = mta.directory();
    let keys = format!(
        ", tls_client_cert: {0}/certificate.pem, tls_client_key: {0}/key.pem, bind: 127.0.0.3",
        directory.display()
    );
    let with = way(&keys);
    with.put(0..3);
    with.must_deliver_all();
    assert!(mta.log().contains("[127.0.0.3]"), "{}", mta.log());
}

#[test]
fn cyrus_takes_all_messages_by_lmtp() {
    let cyrus = Cyrus::start();
    // A path to a socket may not be long, and this one is.
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("lmtp");
    symlink(cyrus.lmtp(), &socket).unwrap();
    let way = Way::to(target(&format!("{{ lmtp: {{ socket: {}, to: [{USER}] }} }}", socket.display())));
    way.put(0..30);
    way.must_deliver_all();
    let arrived: Vec<String> = cyrus
        .messages()
        .into_iter()
        .map(|(_, octets)| String::from_utf8_lossy(&octets).into_owned())
        .collect();
    assert_each_once(&arrived, 0..30);
}
