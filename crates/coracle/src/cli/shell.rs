//! `coracle completion` and `coracle man`: what the command line says of itself, for shells and for man.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{CommandFactory, ValueHint};
use clap_complete::Shell;

use super::{Cli, output};

/// What `coracle completion` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(coracle completion bash)                                      for this shell
  coracle completion bash > ~/.local/share/bash-completion/completions/coracle
  coracle completion zsh > \"${fpath[1]}/_coracle\"
  coracle completion fish > ~/.config/fish/completions/coracle.fish")]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// What `coracle man` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle man | man -l -                    coracle's own page
  coracle man ~/.local/share/man/man1       a page for each command
  man coracle-image-build")]
pub(crate) struct Man {
    /// The folder for a page of each command, made where it is missing; left out, coracle's own page is printed
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

/// Prints the completions.
///
/// # Errors
/// When standard output can't be written.
pub(crate) fn completion(args: &Completion) -> anyhow::Result<u8> {
    output::out(&completions(args.shell))?;
    Ok(0)
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coracle", &mut text);
    text
}

/// Prints coracle's page, or writes all.
///
/// # Errors
/// When they can't be written.
pub(crate) fn man(args: &Man) -> anyhow::Result<u8> {
    match &args.dir {
        Some(dir) => pages(dir)?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .context("coracle's page")?;
            output::out(&page)?;
        }
    }
    Ok(0)
}

fn pages(dir: &Path) -> anyhow::Result<()> {
    let what = || format!("can't write pages into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(what)?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::{Command, ValueEnum};

    use super::*;

    /// Every command that `--help` shows, by its words, and itself.
    fn visible(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
        let words = format!("{words} {}", command.get_name());
        for child in command.get_subcommands() {
            if !child.is_hide_set() && child.get_name() != "help" {
                visible(child, &words, found);
            }
        }
        found.push((words, command.clone()));
    }

    fn all() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        visible(&Cli::command(), "", &mut found);
        found
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_it() {
        for (words, command) in all() {
            assert!(
                command.get_about().is_some(),
                "{words}: says nothing of itself"
            );
            for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
                assert!(
                    argument.get_help().is_some(),
                    "{words}: {} has no help",
                    argument.get_id()
                );
            }
            if words.trim() != "coracle" {
                let examples = command.get_after_help().map(ToString::to_string);
                let examples = examples.unwrap_or_default();
                assert!(examples.contains("Examples:"), "{words}: has no examples");
                assert!(
                    examples.contains("coracle "),
                    "{words}: its examples run nothing"
                );
            }
        }
    }

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let text = String::from_utf8(completions(*shell)).unwrap();
            for (words, command) in all() {
                assert!(text.contains(command.get_name()), "{shell}: no {words}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("man1");
        pages(&place).unwrap();
        for (words, _) in all() {
            let page = place.join(format!("{}.1", words.trim().replace(' ', "-")));
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(text.contains(".TH"), "no {}", page.display());
            assert!(
                words.trim() == "coracle" || text.contains("Examples:"),
                "{words}: no examples"
            );
        }
        assert!(!place.join("coracle-internal.1").exists());
    }
}
