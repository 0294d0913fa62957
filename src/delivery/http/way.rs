//! The way to a server that is asked over HTTP: one connection that is kept, and what it means when that breaks.

use std::io;
use std::sync::Mutex;

use hyper::Request;

use crate::config::HttpUrl;
use crate::config::target::Route;
use crate::delivery::{Access, ServerError, TargetError, file_error};
use crate::disk::spool_directory;
use crate::failure::Class;
use crate::lock::lock;
use crate::net::Endpoint;
use crate::net::http::{Answered, HttpError, Kept, Sent, Upload};
use crate::secret::{Secret, masked};
use crate::stop;

/// A way to a server.
#[derive(Debug)]
pub struct Way {
    pub url: HttpUrl,
    /// How the target is shown.
    pub place: String,
    pub route: Route,
    pub access: Access,
    /// The connection while nobody uses it.
    pub idle: Mutex<Option<Kept>>,
}

/// Whether a request may be sent again that may have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The server knows it again.
    Known,
    Never,
}

impl Way {
    /// Connects, so that nothing is fetched for a server that is not there.
    pub async fn open(&self) -> Result<(), TargetError> {
        let connected = self.connect().await?;
        *lock(&self.idle) = Some(connected);
        Ok(())
    }

    async fn connect(&self) -> Result<Kept, TargetError> {
        let server = (self.url.host.as_str(), self.url.port);
        let endpoint = Endpoint::of_target(&self.access.account, server, &self.route, self.access.timeout);
        let connected = Kept::connect(&self.access.connector, &endpoint, &self.url).await;
        connected.map_err(|error| self.lost(&error))
    }

    /// Sends a request, as `make` makes it, and takes the answer, of whose body so many octets count. A connection that
    /// has served before may just have been too old: then there is another one.
    pub async fn ask(
        &self,
        make: impl Fn() -> Result<Request<Upload>, TargetError>,
        again: Again,
        most: usize,
    ) -> Result<Answered, TargetError> {
        let stop = &self.access.stop;
        loop {
            let mut idle = lock(&self.idle).take();
            let is_usable = match &mut idle {
                Some(kept) => kept.is_usable().await,
                None => false,
            };
            let mut kept = match idle.filter(|_| is_usable) {
                Some(kept) => kept,
                None => tokio::select! {
                    connected = Box::pin(self.connect()) => connected?,
                    () = stop.over(stop::SERVER) => return Ok(ended()),
                },
            };
            let is_used = kept.served > 0;
            let answered = tokio::select! {
                answered = kept.ask(make()?, most) => answered,
                () = stop.over(stop::SERVER) => return Ok(ended()),
            };
            match &answered {
                Answered::Reply { .. } => *lock(&self.idle) = Some(kept),
                Answered::Nothing { error: HttpError::Closed | HttpError::Lost(_), sent }
                    if is_used && (again == Again::Known || *sent == Sent::Part) =>
                {
                    log::debug!("{}: target: connection was over; making another", self.access.account);
                    continue;
                }
                Answered::Nothing { .. } => {}
            }
            return Ok(answered);
        }
    }

    /// Says that the server cannot be had.
    pub fn lost(&self, error: &HttpError) -> TargetError {
        if let HttpError::Unreadable(why) = error {
            return file_error("read", &spool_directory(), io::Error::other(why.clone()));
        }
        let hint = match error {
            HttpError::Net(error) => error.hint_of_target(),
            other => other.hint(),
        };
        self.error(error.to_string(), None, hint, Class::Target)
    }

    pub fn error(
        &self,
        what: String,
        said: Option<Vec<u8>>,
        hint: Option<String>,
        class: Class,
    ) -> TargetError {
        TargetError::Server(Box::new(ServerError { place: self.place.clone(), what, said, hint, class }))
    }

    /// Puts `[secret]` in the place of what the server has echoed of secrets.
    pub fn masked(&self, said: &[u8]) -> Vec<u8> {
        let secrets: Vec<&Secret> = self.access.secret.iter().chain(&self.access.more).collect();
        masked(said, &secrets)
    }
}

fn ended() -> Answered {
    let error = HttpError::Lost("this process was asked to end".to_owned());
    Answered::Nothing { error, sent: Sent::Whole }
}
