//! What stands below the help of commands: each names its own exit statuses.

/// Those of the commands that poll, for the program as a whole.
pub(super) const PROGRAM: &str = "\
Exit status (each command's help has its own):
   0  all polled accounts succeeded, new mail or not (check: mail is waiting)
   1  check only: no mail is waiting
   2  the command line is wrong
  75  an account or a message failed, and a later run may succeed
  77  a server refused the credentials of an account, or the database's password cannot be had
  78  the configuration is wrong, and nothing was contacted

Manual: postrider(1), postrider.yaml(5)";

pub(super) const SYNC: &str = "\
Exit status:
   0  all polled accounts succeeded, new mail or not
   2  the command line is wrong, or there is no such account
  75  an account or a message failed, and a later run may succeed
  77  a server refused the credentials of an account, or the database's password cannot be had
  78  the configuration is wrong, and nothing was contacted";

pub(super) const CHECK: &str = "\
Exit status:
   0  mail is waiting
   1  no mail is waiting
   2  the command line is wrong, or there is no such account
  75  an account failed, and a later run may succeed; or a message is held
  77  a server refused the credentials of an account, or the database's password cannot be had
  78  the configuration is wrong, and nothing was contacted";

pub(super) const DOCTOR: &str = "\
Exit status:
   0  each step went well, of each account and of its targets
   2  the command line is wrong, or there is no such account
  75  a step failed, and a later run may succeed
  77  a server or a target refused the credentials, or the database's password cannot be had
  78  the configuration is wrong, and nothing was contacted";

pub(super) const DAEMON: &str = "\
Signals:
  TERM, INT  finish or abandon what is in flight, and exit with 0 within 10 s; a second one exits at once
  HUP        read the configuration again; a wrong one is reported, and the old one stays
  USR1       poll all accounts now

Exit status:
   0  it was asked to end
   2  the command line is wrong
  75  it could not go on, or was asked twice to end; or a command gave no key of `secrets_key`
  77  the database's password cannot be had
  78  the configuration was wrong at the start, or a key of `secrets_key` cannot be had";

pub(super) const WAKE: &str = "\
Exit status:
   0  the daemon polls as soon as the servers and its limits allow
   2  the command line is wrong
  75  no daemon runs, it does not have an account, or the state cannot be reached
  77  the database's password cannot be had
  78  the configuration is wrong";

pub(super) const SETUP: &str = "\
Exit status:
   0  the account was written, or printed
   2  the command line is wrong, or the address has an account
  75  no server was found, the trial failed, or it was stopped: nothing was written
  77  the server refused the log-in, or the database's password cannot be had: nothing was written
  78  the configuration that is there is wrong, or has no place for the account";

pub(super) const IMPORT: &str = "\
Exit status:
   0  the configuration was printed or written, or the lists were taken over
   2  the command line is wrong
  75  a configuration is there already, or something could not be written
  77  with --seen the database's password cannot be had
  78  the other program's file is not understood, or with --seen the configuration is wrong";

pub(super) const CONFIG: &str = "\
Exit status:
   0  the configuration is sound, with warnings or without
   2  the command line is wrong
  75  a file that it names is on a file system that does not answer
  78  the configuration is wrong, or there is none";

/// Of `seen` and `held`.
pub(super) const RECORDS: &str = "\
Exit status:
   0  it was shown or done
   2  the command line is wrong, or there is no such account or message: nothing was changed
  75  another process polls the maildrop, the server or the state cannot be reached, or a message is held again
  77  the server refused the credentials, or the database's password cannot be had
  78  the configuration is wrong";

pub(super) const STATUS: &str = "\
Exit status:
   0  it was shown; with --max-age: every account was polled well within it
   2  the command line is wrong, or there is no such account or maildrop
  75  with --max-age: an account was not; or the state cannot be read
  77  with --max-age: its server refused the credentials; or the database's password cannot be had
  78  the configuration is wrong";

pub(super) const LOGIN: &str = "\
Exit status:
   0  the tokens are stored
   2  the command line is wrong, or the account needs no login
  75  nobody allowed it in time, or the provider cannot be reached
  77  the provider refused, or the database's password cannot be had
  78  the configuration is wrong";

pub(super) const ACCOUNT: &str = "\
Exit status:
   0  it was shown or done, and each account is sound
   2  the command line is wrong, or there is no such account, or one already: nothing was changed
  75  the database cannot be used, or a command gave no key of `secrets_key`, and a later run may succeed
  77  the database's password cannot be had
  78  the configuration, a key of `secrets_key` or FILE is wrong, or an account: the others were done, or told";

pub(super) const STATE: &str = "\
Exit status:
   0  all is copied, compared, and the same
   2  the command line is wrong, or nothing is recorded in FROM
  75  one of the two is in use or cannot be used, or has something else of a maildrop; or a command gave no key of `secrets_key`
  77  the database's password cannot be had
  78  the configuration is wrong, or a key of `secrets_key`";

pub(super) const COMPLETIONS: &str = "\
Exit status:
   0  they were written
   2  the command line is wrong
  75  they could not be written";

/// Puts together what stands below a command's help: examples, exit statuses, where the manual is.
pub(super) fn below(examples: &str, statuses: &str) -> String {
    format!("Example:\n  {examples}\n\n{statuses}\n\nManual: postrider(1), postrider.yaml(5)")
}
