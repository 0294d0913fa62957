//! `postrider completions`: what a shell needs to complete the command line.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use clap_complete::Shell as Generator;

use super::error::CliError;
use super::exit::Exit;
use super::stdout::Results;

/// What each script runs for the names of the accounts, once it has put `--config FILE` of the command line into `CONFIG`;
/// without a configuration there are none.
const NAMES: &str = "postrider CONFIG config accounts 2>/dev/null";

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    /// Completes what this command line has.
    pub fn run(&self, program: clap::Command, results: &mut Results) -> Result<Exit, CliError> {
        results.write(self.shell.script(program).as_bytes());
        Ok(Exit::SUCCESS)
    }
}

impl Shell {
    fn script(self, mut program: clap::Command) -> String {
        let (takers, valued) = (takers(&program), valued(&program));
        let mut generated = |generator: Generator| {
            // By way of memory: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(generator, &mut program, "postrider", &mut script);
            String::from_utf8_lossy(&script).into_owned()
        };
        match self {
            Self::Bash => bash(&generated(Generator::Bash), &takers, &valued),
            Self::Zsh => zsh(&generated(Generator::Zsh)),
            Self::Fish => fish(&generated(Generator::Fish), &takers),
        }
    }
}

/// Finds the commands that take accounts: `sync`, `seen list` and so on.
fn takers(command: &clap::Command) -> Vec<String> {
    let is_account = |argument: &clap::Arg| matches!(argument.get_id().as_str(), "account" | "accounts");
    let mut found = Vec::new();
    for sub in command.get_subcommands() {
        if sub.get_positionals().any(is_account) {
            found.push(sub.get_name().to_owned());
        }
        found.extend(takers(sub).into_iter().map(|below| format!("{} {below}", sub.get_name())));
    }
    found
}

/// Finds the options that take a value, of all commands.
fn valued(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter(|argument| argument.get_action().takes_values());
    let own = own.filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
    own.chain(command.get_subcommands().flat_map(valued)).collect()
}

/// The generated function knows no values of positional arguments, so another one is wrapped around it.
fn bash(generated: &str, takers: &[String], valued: &BTreeSet<String>) -> String {
    let valued = Vec::from_iter(valued.iter().map(String::as_str)).join(" | ");
    let patterns: Vec<_> = takers.iter().map(|words| format!("\" {words} \"*")).collect();
    let function = format!(
        r#"_postrider_with_accounts() {{
    _postrider "$@"
    local cur=${{COMP_WORDS[COMP_CWORD]}} words=" " config=() word previous=
    [[ $cur == -* ]] && return
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        # `--config=FILE` is three words here.
        [[ $word == = ]] && continue
        case $previous in
            --config) config=(--config "${{word/#\~\//$HOME/}}") ;;
            {valued}) ;;
            *) [[ $word == -* ]] || words+="$word " ;;
        esac
        previous=$word
    done
    case $previous in
        {valued}) return ;;
    esac
    case $words in
        {takers}) COMPREPLY+=($(compgen -W "$({names})" -- "$cur")) ;;
    esac
}}

"#,
        takers = patterns.join(" | "),
        names = NAMES.replace("CONFIG", "\"${config[@]}\""),
    );
    let wrapped = generated.replace("complete -F _postrider ", "complete -F _postrider_with_accounts ");
    match wrapped.rfind("if [[ \"${BASH_VERSINFO") {
        Some(end) => format!("{}{function}{}", &wrapped[..end], &wrapped[end..]),
        None => wrapped,
    }
}

/// Each positional argument names the function that completes it.
fn zsh(generated: &str) -> String {
    let completed = |line: &str| {
        let line = match line.starts_with("'*::accounts ") || line.starts_with("':account ") {
            true => line.replacen(":_default'", ":_postrider_accounts'", 1),
            false => line.to_owned(),
        };
        line + "\n"
    };
    let function = format!(
        r#"_postrider_accounts() {{
    local -a config
    local word previous=
    for word in ${{words[2,CURRENT-1]}}; do
        [[ $word == --config=* ]] && config=(--config ${{~word#--config=}})
        [[ $previous == --config ]] && config=(--config ${{~word}})
        previous=$word
    done
    compadd -- ${{(f)"$({})"}}
}}

"#,
        NAMES.replace("CONFIG", "$config")
    );
    let script: String = generated.lines().map(completed).collect();
    match script.find("_postrider_commands() {").and_then(|at| script[..at].rfind("\n(( ")) {
        Some(end) => format!("{}{function}{}", &script[..=end], &script[end + 1..]),
        None => script,
    }
}

fn fish(generated: &str, takers: &[String]) -> String {
    let names = NAMES.replace("CONFIG", "(__postrider_config)");
    let config = r#"function __postrider_config
    set -l previous
    for word in (commandline -opc)
        if string match -q -- '--config=*' $word
            printf '%s\n' --config (string replace -r '^~/' $HOME/ -- (string sub -s 10 -- $word))
        else if test "$previous" = --config
            printf '%s\n' --config (string replace -r '^~/' $HOME/ -- $word)
        end
        set previous $word
    end
end
"#;
    let rule = |words: &String| {
        let mut words = words.split(' ');
        let first = words.next().unwrap_or_default();
        let deeper: String = words.map(|word| format!("; and __fish_seen_subcommand_from {word}")).collect();
        format!(
            "complete -c postrider -n \"__fish_postrider_using_subcommand {first}{deeper}\" -f -a \"({names})\"\n"
        )
    };
    format!("{generated}{config}{}", takers.iter().map(rule).collect::<String>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn each_command_that_takes_accounts_is_known() {
        let takers = takers(&Arguments::command());
        for expected in ["sync", "wake", "check", "seen list", "seen mark", "held retry", "held discard"] {
            assert!(takers.iter().any(|found| found == expected), "{expected}: {takers:?}");
        }
        assert!(!takers.iter().any(|found| found == "completions" || found == "daemon"), "{takers:?}");
    }

    #[test]
    fn every_script_asks_for_the_names() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = shell.script(Arguments::command());
            assert!(script.contains("config accounts 2>/dev/null"), "{shell:?}");
            assert!(!script.contains(" CONFIG "), "{shell:?}");
        }
        let zsh = Shell::Zsh.script(Arguments::command());
        assert!(!zsh.contains("account -- An account of the configuration:_default"), "{zsh}");
        assert!(zsh.contains(":_postrider_accounts'") && zsh.contains("\n_postrider_accounts() {"), "{zsh}");
        let bash = Shell::Bash.script(Arguments::command());
        assert!(
            bash.contains(" | --limit | ") && bash.contains("complete -F _postrider_with_accounts -o nosort")
        );
    }
}
