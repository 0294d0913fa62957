//! `postrider check`: asks whether mail is waiting.

use clap::Args;

use super::accounts::{add_rows, chosen, retry};
use super::exit::Exit;
use super::progress::Bars;
use super::stdout::Results;
use super::{CliError, Common, poll, report};
use crate::config::Config;
use crate::session::{Report, Retry, Task};

#[derive(Debug, Args)]
pub struct Check {
    /// Accounts of the configuration [default: all that are enabled]
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,
    /// Try a log-in that the server refused once more now, before its wait is over
    #[arg(long)]
    force: bool,
    /// Print one result object an account, each as it ends
    #[arg(long)]
    json: bool,
}

impl Check {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let mut config = Config { notify: None, ..common.load()? };
        add_rows(&mut config, &self.accounts).await?;
        let chosen = chosen(&mut config, &self.accounts)?;
        let bars = if self.json { Bars::none() } else { Bars::new(common, chosen.len()) };
        let reports = poll::accounts(
            &chosen,
            &config,
            Task::Check(if self.force { Retry::Now } else { retry(&self.accounts) }),
            bars,
            |report| {
                if self.json {
                    results.line(report::json(report));
                    results.flush();
                }
            },
        )
        .await?;
        if !self.json {
            reports.iter().filter_map(report::checked).for_each(|line| results.line(line));
        }
        Ok(exit(&reports))
    }
}

fn exit(reports: &[Report]) -> Exit {
    match Exit::of(reports) {
        Exit::SUCCESS if reports.iter().all(|report| report.new == 0) => Exit::NONE_WAITING,
        exit => exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_with_new_mail_is_mail_waiting() {
        let with = |new| Report { new, ..Report::default() };
        assert_eq!(exit(&[with(0), with(2)]), Exit::SUCCESS);
        assert_eq!(exit(&[with(0), with(0)]), Exit::NONE_WAITING);
        assert_eq!(exit(&[with(2), Report { leaves_held: 1, ..with(0) }]), Exit::LATER);
    }
}
