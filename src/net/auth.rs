//! The one way through a SASL exchange (RFC 4422, 3), whatever protocol carries it.

use zeroize::Zeroizing;

use crate::disk::blocking;
use crate::line::{self, AuthLine};
use crate::sasl::{Exchange, SaslError, TokenRefused};

/// A protocol in which an exchange is carried: POP3 (RFC 5034), SMTP and LMTP (RFC 4954).
pub trait Carrier {
    type Error;

    /// Octets of a command line, CRLF included, beyond which an initial response is not sent along.
    const LONGEST_LINE: usize;

    /// Sends a line, which leaves so much to be said, and waits for the answer. A refusal is an error.
    fn say(
        &mut self,
        line: AuthLine<'_>,
        left: Left,
    ) -> impl Future<Output = Result<Answer, Self::Error>> + Send;

    /// Makes an error of the mechanism's own.
    fn failed(&self, error: SaslError) -> Self::Error;

    /// Adds to a refusal what the server has told of its reason.
    fn explained(&self, refusal: Self::Error, why: &TokenRefused) -> Self::Error;

    /// Makes an error of a challenge to which the mechanism has nothing to say.
    fn one_too_many(&self) -> Self::Error;

    /// Gives the words of a refusal, if it is one.
    fn words<'e>(&self, refusal: &'e Self::Error) -> Option<&'e [u8]>;
}

/// What the client still has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Something.
    More,
    /// Nothing: what comes next is the outcome.
    Nothing,
}

/// What a server answers that does not refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It asks for more; in base64.
    Challenge(Vec<u8>),
    /// The user is logged in.
    Accepted,
}

/// Speaks the exchange of the mechanism that has this name on the wire.
pub async fn authenticate<C: Carrier>(
    carrier: &mut C,
    name: &'static str,
    mut exchange: Exchange,
) -> Result<(), C::Error> {
    let mut initial = exchange.initial();
    // Some servers ignore what came along with AUTH, and ask for it.
    let mut again = initial.clone();
    let mut answer = begin(carrier, name, &mut initial, left(&exchange)).await?;
    let mut ended = false;
    let mut why = None;
    loop {
        let challenge = match answer {
            Answer::Accepted => return exchange.finish().map_err(|error| carrier.failed(error)),
            Answer::Challenge(challenge) => challenge,
        };
        let response = match initial.take() {
            Some(response) => Ok(response),
            None if exchange.is_complete() && !ended => {
                ended = true;
                let details = exchange.acknowledge(&line::challenge(&challenge));
                match details.filter(|_| !challenge.trim_ascii().is_empty()) {
                    Some((response, refused)) => {
                        why = Some(refused);
                        Ok(Zeroizing::new(response.to_vec()))
                    }
                    // Asked once more for the first message, or told a failure's details; an empty line has the
                    // refusal said then.
                    None => Ok(again.take().filter(|_| challenge.is_empty()).unwrap_or_default()),
                }
            }
            None if exchange.is_complete() => return Err(carrier.one_too_many()),
            None => {
                let response;
                (exchange, response) = respond(exchange, &challenge).await;
                response
            }
        };
        match response {
            Ok(response) => {
                let said = carrier.say(AuthLine::Response(&response), left(&exchange)).await;
                answer = said.map_err(|refusal| match &why {
                    Some(why) => carrier.explained(refusal, why),
                    None => refusal,
                })?;
            }
            Err(error) => {
                // The server is told, and says no to it, or nothing: the error is this one.
                let _ = carrier.say(AuthLine::Cancel, Left::More).await;
                return Err(carrier.failed(error));
            }
        }
    }
}

/// Begins with AUTH, and takes along the initial response that fits into its line; `left` is what there is to say behind
/// that one.
async fn begin<C: Carrier>(
    carrier: &mut C,
    name: &'static str,
    initial: &mut Option<Zeroizing<Vec<u8>>>,
    left: Left,
) -> Result<Answer, C::Error> {
    let along = initial.take_if(|response| fits(name, response, C::LONGEST_LINE));
    let first = if initial.is_some() { Left::More } else { left };
    let begun = carrier.say(AuthLine::Begin(name, along.as_ref().map(|along| &along[..])), first).await;
    match begun {
        // Some servers know AUTH of RFC 1734 only, and RFC 5034's initial response is an argument too many to them.
        Err(refusal) if along.is_some() && carrier.words(&refusal).is_some_and(speaks_of_form) => {
            *initial = along;
            carrier.say(AuthLine::Begin(name, None), Left::More).await
        }
        begun => begun,
    }
}

fn left(exchange: &Exchange) -> Left {
    if exchange.is_complete() { Left::Nothing } else { Left::More }
}

/// Answers a challenge. SCRAM derives a key, some milliseconds of work, off the thread that serves all accounts.
async fn respond(
    mut exchange: Exchange,
    challenge: &[u8],
) -> (Exchange, Result<Zeroizing<Vec<u8>>, SaslError>) {
    let challenge = line::challenge(challenge);
    blocking::compute(move || {
        let response = exchange.respond(&challenge);
        (exchange, response)
    })
    .await
}

/// Says whether these are words about how a command is written, rather than about who logs in.
fn speaks_of_form(said: &[u8]) -> bool {
    const FORM: [&[u8]; 6] =
        [b"syntax", b"argument", b"parameter", b"usage:", b"protocol error", b"initial response"];
    let said = said.to_ascii_lowercase();
    FORM.iter().any(|words| memchr::memmem::find(&said, words).is_some())
}

/// Says whether an AUTH command with this initial response fits a line.
fn fits(name: &'static str, response: &[u8], longest: usize) -> bool {
    let mut line = Zeroizing::new(Vec::new());
    AuthLine::Begin(name, Some(response)).encode(&mut line);
    line.len() + b"\r\n".len() <= longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sasl::{Credentials, Mechanism};
    use crate::secret::Secret;

    /// Answers from a list, and keeps what was said.
    struct Scripted {
        answers: Vec<Answer>,
        said: Vec<(String, Left)>,
    }

    impl Carrier for Scripted {
        type Error = String;
        const LONGEST_LINE: usize = 40;

        async fn say(&mut self, line: AuthLine<'_>, left: Left) -> Result<Answer, String> {
            let mut octets = Vec::new();
            line.encode(&mut octets);
            self.said.push((String::from_utf8(octets).unwrap(), left));
            if self.answers.is_empty() {
                return Err("refused".into());
            }
            match self.answers.remove(0) {
                Answer::Challenge(words) if words.starts_with(b"-ERR ") => {
                    Err(String::from_utf8_lossy(&words).into_owned())
                }
                answer => Ok(answer),
            }
        }

        fn failed(&self, error: SaslError) -> String {
            error.to_string()
        }

        fn explained(&self, refusal: String, why: &TokenRefused) -> String {
            format!("{refusal}: {why}")
        }

        fn one_too_many(&self) -> String {
            "one too many".into()
        }

        fn words<'e>(&self, refusal: &'e String) -> Option<&'e [u8]> {
            Some(refusal.as_bytes())
        }
    }

    async fn speak(
        mechanism: Mechanism,
        password: &str,
        answers: &[Answer],
    ) -> (Result<(), String>, Vec<(String, Left)>) {
        let secret = Secret::new(password);
        let credentials = Credentials { user: "alice", secret: &secret, exporter: None, plus_offered: false };
        let exchange = Exchange::new(mechanism, &credentials).unwrap();
        let mut carrier = Scripted { answers: answers.to_vec(), said: Vec::new() };
        let outcome = authenticate(&mut carrier, mechanism.sasl_name().unwrap(), exchange).await;
        (outcome, carrier.said)
    }

    fn challenge(text: &str) -> Answer {
        Answer::Challenge(text.into())
    }

    fn said(lines: &[(&str, Left)]) -> Vec<(String, Left)> {
        lines.iter().map(|(line, left)| ((*line).to_owned(), *left)).collect()
    }

    #[tokio::test]
    async fn an_initial_response_goes_along_if_the_line_can_bear_it() {
        let (outcome, lines) = speak(Mechanism::Plain, "s", &[Answer::Accepted]).await;
        assert_eq!(outcome, Ok(()));
        assert_eq!(lines, said(&[("AUTH PLAIN AGFsaWNlAHM=", Left::Nothing)]));
        let long = "a password of many words";
        let (outcome, lines) = speak(Mechanism::Plain, long, &[challenge(""), Answer::Accepted]).await;
        assert_eq!(outcome, Ok(()));
        assert_eq!(lines[0], ("AUTH PLAIN".into(), Left::More));
        assert_eq!(lines[1].1, Left::Nothing);
    }

    #[tokio::test]
    async fn a_server_that_ignores_the_initial_response_gets_it_again_once() {
        let first = ("AUTH PLAIN AGFsaWNlAHM=", Left::Nothing);
        let (outcome, lines) = speak(Mechanism::Plain, "s", &[challenge(""), Answer::Accepted]).await;
        assert_eq!(outcome, Ok(()));
        assert_eq!(lines, said(&[first, ("AGFsaWNlAHM=", Left::Nothing)]));
        let (outcome, lines) = speak(Mechanism::Plain, "s", &[challenge("bm8="), challenge("")]).await;
        assert_eq!(outcome, Err("one too many".into()));
        assert_eq!(lines, said(&[first, ("", Left::Nothing)]));
    }

    #[tokio::test]
    async fn a_server_that_refuses_an_initial_response_for_its_form_gets_it_in_a_second_step() {
        let answers = [challenge("-ERR Syntax error in parameters"), challenge(""), Answer::Accepted];
        let (outcome, lines) = speak(Mechanism::Plain, "s", &answers).await;
        assert_eq!(outcome, Ok(()));
        let response = "AGFsaWNlAHM=";
        let along = ("AUTH PLAIN AGFsaWNlAHM=", Left::Nothing);
        assert_eq!(lines, said(&[along, ("AUTH PLAIN", Left::More), (response, Left::Nothing)]));
        let answers = [challenge("-ERR no such user"), challenge(""), Answer::Accepted];
        let (outcome, lines) = speak(Mechanism::Plain, "s", &answers).await;
        assert_eq!((outcome, lines.len()), (Err("-ERR no such user".into()), 1));
    }

    #[tokio::test]
    async fn a_refused_token_is_acknowledged_and_the_reason_told() {
        // {"status":"invalid_token"}
        let reason = challenge("eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=");
        for (mechanism, acknowledgement) in [(Mechanism::OAuthBearer, "AQ=="), (Mechanism::Xoauth2, "")] {
            let (outcome, lines) = speak(mechanism, "token", &[challenge(""), reason.clone()]).await;
            assert!(
                outcome
                    .unwrap_err()
                    .starts_with("refused: the server does not take the access token (invalid_token)")
            );
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[2], (acknowledgement.into(), Left::Nothing));
        }
    }

    #[tokio::test]
    async fn an_exchange_that_fails_is_cancelled() {
        let answers = [challenge("e=no"), challenge("")];
        let (outcome, lines) = speak(Mechanism::ScramSha256, "s", &answers).await;
        assert!(outcome.unwrap_err().contains("SCRAM"));
        assert_eq!(lines.last(), Some(&("*".into(), Left::More)));
    }

    #[tokio::test]
    async fn a_server_is_not_believed_before_it_has_proved_itself() {
        let (outcome, _) = speak(Mechanism::ScramSha256, "s", &[Answer::Accepted]).await;
        assert!(outcome.unwrap_err().contains("without proving"));
    }
}
