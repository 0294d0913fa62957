//! The one door for tests, benches, examples and fuzzing: what they use of the inside, by name. Nothing in the program
//! imports it, and nobody else may rely on it.

pub mod autoconfig {
    pub use crate::autoconfig::{Address, Document, Server};
}

pub mod config {
    pub use crate::config::account::{
        ClientCertificate, CommandLine, FirstSync, Interval, Keep, Order, Password, Pipelining, Tls, TlsMode,
        TlsVersion,
    };
    pub use crate::config::target::{
        Address, CatchAll, Destination, Occurrence, Pipe, Provider, Route, Sender, Unknown, is_address,
    };
    pub use crate::config::{
        Account, Config, Fleet, HttpUrl, MailServer, Proxy, Reach, Recipients, Row, RowError, SessionLimits,
        Target, show,
    };
}

pub mod credential {
    pub use crate::credential::{CredentialError, password};
}

pub mod delivery {
    pub use crate::delivery::{Access, Draft, Finished, Others, Outcome, Sink, TargetError};
    pub use crate::message::MessageId;

    pub mod envelope {
        pub use crate::delivery::envelope::{recipients, sender};
    }
}

pub mod disk {
    pub use crate::disk::{Disk, Limits};
}

pub mod failure {
    pub use crate::failure::Class;
}

pub mod imap {
    pub use crate::imap::{Client, Command, Event};
}

pub mod line {
    pub use crate::line::{AuthLine, Protocol, challenge};
}

pub mod message {
    pub use crate::message::{FileId, Fingerprinter, Header, ListingBuilder, ToLf, Trace};

    pub mod trace {
        pub use crate::message::trace::length;
    }
}

pub mod net {
    pub use crate::config::account::pin;
    pub use crate::net::http::{HttpError, LONGEST_BODY, Reply};
    pub use crate::net::{CertificateFault, Connector, Endpoint, NetError, Stream, looks_like_tls};
}

pub mod pop3 {
    pub use crate::pop3::body::{LineEnd, Piece, Unstuffer};
    pub use crate::pop3::{Capabilities, Client, Command, Event, MessageNumber, Reply, UniqueId};
    pub use crate::pop3::{parse_size, parse_unique_id};

    pub mod apop {
        pub use crate::pop3::apop::stamp;
    }
}

pub mod sasl {
    pub use crate::sasl::{Auth, Credentials, Exchange, MECHANISMS, Mechanism};
}

pub mod seal {
    pub use crate::seal::{Ring, SealError, Sealed};
}

pub mod secret {
    pub use crate::secret::Secret;
}

pub mod session {
    pub use crate::session::summary::{Octets, Took};
    pub use crate::session::{
        Activity, Environment, Limits, Progress, Report, Retry, Task, WallClock, now, run,
    };
}

pub mod smtp {
    pub use crate::smtp::{Client, ClientId, Command, Dialect, Event, Extensions};
}

pub mod state {
    pub use crate::state::{
        Claimed, Closing, Delivery, Kind, Lease, MaildropKey, Memory, StateError, Store, Trouble,
    };

    pub mod postgres {
        pub use crate::config::Postgres;
        pub use crate::state::postgres::schema::statements;
        pub use crate::state::postgres::{
            Accounts, Claim, Close, Database, Entered, Leases, Param, Roll, Server, Written,
        };
    }
}

pub mod stop {
    pub use crate::clock::since_boot;
    pub use crate::stop::{Renewer, Term, channel, term};
}
