//! What the database refuses a worker: told once, by what was being done, until that same thing works again.

use std::collections::BTreeMap;

use crate::state::{StateError, Trouble};

/// What fails, by what was being done.
#[derive(Debug, Default)]
pub struct Troubles(BTreeMap<&'static str, Failing>);

#[derive(Debug)]
struct Failing {
    kind: Kind,
    news: News,
}

/// Two of one kind are one trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The database does not answer at all: whatever works again says that it is over.
    Away,
    /// It answered, and refused what was asked.
    Refused(Trouble),
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Told,
    /// Something else that met the same was told.
    Known,
}

impl Troubles {
    /// Gives what was done, if it was. Tells why not, or that it works again, if that is news.
    pub fn noted<T>(&mut self, doing: &'static str, outcome: Result<T, StateError>) -> Option<T> {
        match outcome {
            Ok(done) => {
                if let Some(words) = self.works(doing) {
                    log::warn!("{words}");
                }
                Some(done)
            }
            Err(error) => {
                if let Some(words) = self.fails(doing, &error) {
                    log::error!("{words}");
                }
                None
            }
        }
    }

    /// Gives what is to be told of an error.
    fn fails(&mut self, doing: &'static str, error: &StateError) -> Option<String> {
        let kind = Kind::of(error);
        let is_known = self.0.values().any(|failing| failing.kind == kind && failing.news == News::Told);
        let news = if is_known { News::Known } else { News::Told };
        // What was told stays so: by what works again it is known to be over.
        if self.0.get(doing).is_none_or(|failing| failing.kind != kind || failing.news == News::Known) {
            self.0.insert(doing, Failing { kind, news });
        }
        if is_known {
            return None;
        }
        let meanwhile = match kind {
            Kind::Away => "no maildrop is claimed until the database answers",
            Kind::Refused(_) | Kind::Other => "it is tried again",
        };
        let hint = error.hint().map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
        Some(format!("cannot {doing}: {error}; {meanwhile}{hint}"))
    }

    /// Gives what is to be told of something that worked.
    fn works(&mut self, doing: &'static str) -> Option<String> {
        let was_away = self.0.values().any(|failing| failing.kind == Kind::Away);
        let failing = self.0.remove(doing);
        self.0.retain(|_, failing| failing.kind != Kind::Away);
        if was_away {
            return Some("the database answers again".to_owned());
        }
        failing.filter(|failing| failing.news == News::Told).map(|_| format!("can {doing} again"))
    }
}

impl Kind {
    fn of(error: &StateError) -> Self {
        match error {
            StateError::Database { trouble, .. } => match trouble {
                Trouble::Unreachable | Trouble::Lost | Trouble::Silent | Trouble::Busy => Self::Away,
                refused => Self::Refused(*refused),
            },
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(troubles: &mut Troubles, doing: &'static str, trouble: Trouble) -> Option<String> {
        let error = StateError::Database { place: "db".to_owned(), trouble, what: "no".to_owned() };
        troubles.fails(doing, &error)
    }

    #[test]
    fn a_database_that_is_away_is_told_once_whatever_was_being_done_and_so_is_its_return() {
        let mut troubles = Troubles::default();
        let told = fails(&mut troubles, "look", Trouble::Lost).unwrap();
        assert!(told.starts_with("cannot look: ") && told.contains("\n  hint: "), "{told}");
        for doing in ["close", "look", "join"] {
            assert_eq!(fails(&mut troubles, doing, Trouble::Unreachable), None);
        }
        assert_eq!(troubles.works("look").as_deref(), Some("the database answers again"));
        assert_eq!(troubles.works("close"), None);
    }

    #[test]
    fn what_is_refused_is_told_once_while_all_else_works_and_over_when_it_works_itself() {
        let mut troubles = Troubles::default();
        let told = fails(&mut troubles, "claim", Trouble::Full).unwrap();
        assert!(told.contains("it is tried again") && told.contains("make room there"), "{told}");
        for _ in 0..3 {
            assert_eq!(troubles.works("look"), None);
            assert_eq!(fails(&mut troubles, "claim", Trouble::Full), None);
            assert_eq!(fails(&mut troubles, "close", Trouble::Full), None, "it is the same trouble");
        }
        assert!(fails(&mut troubles, "close", Trouble::Forbidden).is_some(), "that is another");
        assert_eq!(troubles.works("claim").as_deref(), Some("can claim again"));
        assert!(fails(&mut troubles, "claim", Trouble::Full).is_some());
    }
}
