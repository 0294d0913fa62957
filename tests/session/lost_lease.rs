//! A lease that is lost in the middle of a session: another worker may have the maildrop from then on.

use std::time::Duration;

use postrider::testing::failure::Class;
use postrider::testing::session::{self, Limits, Progress, Report, Task};
use postrider::testing::stop::{Renewer, since_boot, term};

use crate::support::maildrop::{Maildrop, Settings, What};
use crate::support::poller::Poller;

const MESSAGES: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Planned,
    Received,
    Delivered,
}

/// Takes the lease away in a phase.
struct Thief {
    phase: Phase,
    renewer: Renewer,
}

impl Thief {
    fn comes(&self, phase: Phase) {
        if phase == self.phase {
            self.renewer.end();
        }
    }
}

impl Progress for Thief {
    fn planned(&self, _messages: usize, _octets: u64) {
        self.comes(Phase::Planned);
    }

    fn received(&self, _octets: u64) {
        self.comes(Phase::Received);
    }

    fn delivered(&self, _messages: usize) {
        self.comes(Phase::Delivered);
    }
}

fn message(number: usize) -> String {
    format!("Message-ID: <{number}@a>\r\nDate: b\r\n\r\n{}", "a line of the body\r\n".repeat(400))
}

fn said(server: &Maildrop, verb: &str) -> usize {
    server.count(|what| matches!(what, What::Command(line) if line.starts_with(verb)))
}

fn lost(poller: &Poller, phase: Phase) -> Report {
    let (renewer, term) = term(since_boot() + Duration::from_secs(3600));
    let environment =
        session::Environment { stop: poller.environment.stop.under(term), ..poller.environment.clone() };
    let (task, thief) = (Task::Sync(Limits::default()), Thief { phase, renewer });
    poller.block_on(session::run(&poller.account, &environment, task, &thief))
}

#[test]
fn after_a_lost_lease_nothing_is_said_shown_or_written_and_the_next_session_does_it_all_once() {
    for phase in [Phase::Planned, Phase::Received, Phase::Delivered] {
        let server = Maildrop::start(Settings::default());
        (0..MESSAGES).for_each(|number| server.put(&format!("uid-{number}"), message(number)));
        let poller = Poller::new(server.port(), "tls_ca: {}/ca.pem\nkeep: none");
        poller.write("ca.pem", &server.certificate.authority_pem);
        let failure = lost(&poller, phase).failure.expect("it did not end well");
        assert_eq!(failure.class, Class::InUse, "{failure:?}");
        assert!(failure.what.contains("lease"), "{failure:?}");
        assert_eq!(said(&server, "QUIT"), 0, "{phase:?}");
        assert_eq!(server.uids().len(), MESSAGES, "{phase:?}");
        let delivered = poller.maildir().len();
        match phase {
            // The first RETRs may be on their way by then, and change nothing.
            Phase::Planned | Phase::Received => assert_eq!((said(&server, "DELE"), delivered), (0, 0)),
            Phase::Delivered => assert!(delivered > 0),
        }
        assert!(poller.seen().len() <= delivered, "{phase:?}: what is not there is recorded");
        assert_eq!(poller.leftovers().len(), 0, "{phase:?}");
        poller.must();
        assert_eq!((poller.maildir().len(), server.uids().len()), (MESSAGES, 0), "{phase:?}");
    }
}
