//! What stands below the help of commands.

/// Stands below the help of every command.
pub(super) const EXIT_STATUS: &str = "\
Exit status:
   0  all polled accounts succeeded, new mail or not (check: mail is waiting)
   1  check only: no mail is waiting
   2  the command line is wrong
  75  an account or a message failed, and a later run may succeed
  77  a server refused the credentials of an account
  78  the configuration is wrong, and nothing was contacted

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `daemon`.
pub(super) const DAEMON_EXIT_STATUS: &str = "\
Signals:
  TERM, INT  finish or abandon what is in flight, and exit with 0 within 10 s; a second one exits at once
  HUP        read the configuration again; a wrong one is reported, and the old one stays
  USR1       poll all accounts now

Exit status:
   0  it was asked to end
  75  it could not go on, or was asked twice to end
  78  the configuration was wrong at the start

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `wake`.
pub(super) const WAKE_EXIT_STATUS: &str = "\
Exit status:
   0  the daemon polls as soon as the servers and its limits allow
   2  the command line is wrong
  75  no daemon runs, or it does not have an account
  78  the configuration is wrong

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `setup`.
pub(super) const SETUP_EXIT_STATUS: &str = "\
Exit status:
   0  the account was written, or printed
   2  the command line is wrong, or the address has an account
  75  no server was found, the trial failed, or it was stopped: nothing was written
  77  the server refused the log-in: nothing was written
  78  the configuration that is there is wrong, or has no place for the account

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `import`.
pub(super) const IMPORT_EXIT_STATUS: &str = "\
Exit status:
   0  the configuration was printed or written, or the lists were taken over
   2  the command line is wrong
  75  a configuration is there already, or something could not be written
  78  the other program's file is not understood, or with --seen the configuration is wrong

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `config`.
pub(super) const CONFIG_EXIT_STATUS: &str = "\
Exit status:
   0  the configuration is sound, with warnings or without
   2  the command line is wrong
  75  a file that it names is on a file system that does not answer
  78  the configuration is wrong, or there is none

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `seen` and `held`.
pub(super) const RECORDS_EXIT_STATUS: &str = "\
Exit status:
   0  it was shown or done
   2  the command line is wrong, or there is no such account or message: nothing was changed
  75  another process polls the maildrop, or the server or the state cannot be reached
  77  the server refused the credentials
  78  the configuration is wrong

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `status`.
pub(super) const STATUS_EXIT_STATUS: &str = "\
Exit status:
   0  it was shown; with --max-age: every account was polled well within it
   2  the command line is wrong, or there is no such account or maildrop
  75  with --max-age: an account was not; or the state cannot be read
  77  with --max-age: an account was not, and its server refused the credentials
  78  the configuration is wrong

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `login`.
pub(super) const LOGIN_EXIT_STATUS: &str = "\
Exit status:
   0  the tokens are stored
   2  the command line is wrong, or the account needs no login
  75  nobody allowed it in time, or the provider cannot be reached
  77  the provider refused
  78  the configuration is wrong

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `completions`.
pub(super) const COMPLETIONS_EXIT_STATUS: &str = "\
Exit status:
   0  they were written
   2  the command line is wrong
  75  they could not be written

Manual: postrider(1), postrider.yaml(5)";

/// Puts an example before what stands below a command's help.
pub(super) fn example(command: &str, below: &str) -> String {
    format!("Example:\n  {command}\n\n{below}")
}
