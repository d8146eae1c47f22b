//! Progress of pulls, pushes and compiles, for people: bars on a terminal; elsewhere plain lines where a command is
//! about moving an image, else nothing.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runtime::CompileProgress;

use crate::cli::output;

/// Tells what takes long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reporter {
    shown: bool,
    lines: bool,
}

/// One thing that takes long; its bar goes with it.
pub(crate) struct Bar {
    bar: ProgressBar,
    name: String,
    lines: bool,
}

impl Reporter {
    /// Bars on standard error, if that is a terminal and they are wanted.
    pub(crate) fn new(wanted: bool) -> Reporter {
        Reporter {
            shown: wanted && std::io::stderr().is_terminal(),
            lines: false,
        }
    }

    /// The same, with plain lines where there is no terminal.
    pub(crate) fn with_lines(wanted: bool) -> Reporter {
        let terminal = std::io::stderr().is_terminal();
        Reporter {
            shown: wanted && terminal,
            lines: wanted && !terminal,
        }
    }

    fn bar(self, verb: &str, name: &str) -> Bar {
        let target = match self.shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let message = format!("{verb} {name}");
        if self.lines {
            eprintln!("{message}");
        }
        Bar {
            bar: ProgressBar::with_draw_target(None, target).with_message(message),
            name: name.to_owned(),
            lines: self.lines,
        }
    }

    /// A pull has begun.
    pub(crate) fn pull(self, name: &str) -> Bar {
        let bar = self.bar("Pulling", name);
        bar.animate();
        bar
    }

    /// A push has begun.
    pub(crate) fn push(self, name: &str) -> Bar {
        let bar = self.bar("Pushing", name);
        bar.animate();
        bar
    }

    /// A module's code is asked for; nothing is shown while it is in the cache.
    pub(crate) fn compile(self, name: &str) -> Bar {
        self.bar("Compiling", name)
    }
}

impl Bar {
    fn animate(&self) {
        if !self.bar.is_hidden() {
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
    }

    /// What a pull is to call with its progress.
    pub(crate) fn reports(&self) -> Option<Arc<dyn Fn(image::Progress) + Send + Sync>> {
        if self.lines {
            let name = self.name.clone();
            return Some(Arc::new(move |progress| {
                if let Some(line) = line(&name, &progress) {
                    eprintln!("{line}");
                }
            }));
        }
        if self.bar.is_hidden() {
            return None;
        }
        let bar = self.bar.clone();
        Some(Arc::new(move |progress| match progress {
            image::Progress::Resolved { bytes, .. } => bytes_bar(&bar, bytes),
            image::Progress::Fetched { bytes } => bar.inc(bytes),
            image::Progress::Retry { .. } => {
                bar.println(line("", &progress).unwrap_or_default());
            }
            image::Progress::Unpacking { diff_id } => {
                let short: String = diff_id.to_string().chars().take(19).collect();
                bar.set_message(format!("Unpacking {short}"));
            }
        }))
    }

    /// What a push is to call with its progress.
    pub(crate) fn sends(&self) -> image::Told {
        let (bar, lines) = (self.bar.clone(), self.lines);
        Arc::new(move |sending| match sending {
            image::Sending::Begun { bytes, .. } => bytes_bar(&bar, bytes),
            image::Sending::Sent { bytes } => bar.inc(bytes),
            image::Sending::Done { digest, bytes, how } => {
                let what: String = digest.hex().chars().take(12).collect();
                let told = match how {
                    image::Delivery::Present => "Layer already exists".to_owned(),
                    image::Delivery::Mounted { from } => format!("Mounted from {from}"),
                    image::Delivery::Sent => "Pushed".to_owned(),
                };
                if told != "Pushed" {
                    bar.inc(bytes);
                }
                if lines {
                    eprintln!("{what}: {told}");
                } else {
                    bar.println(format!("{what}: {told}"));
                }
            }
        })
    }

    /// A compilation got so far.
    pub(crate) fn at(&self, stage: CompileProgress) {
        if let CompileProgress::Queued = stage {
            self.bar.set_prefix("waiting: ");
        }
        self.animate();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What is worth a line where no bar can be drawn.
fn line(name: &str, progress: &image::Progress) -> Option<String> {
    match progress {
        image::Progress::Resolved { bytes: 0, .. } => None,
        image::Progress::Resolved { bytes, layers, .. } => {
            let size = output::bytes(*bytes);
            let plural = if *layers == 1 { "" } else { "s" };
            Some(format!("{name}: {layers} layer{plural}, {size} to fetch"))
        }
        image::Progress::Retry { reason, after } => Some(format!("{reason}; again in {after:?}")),
        image::Progress::Fetched { .. } | image::Progress::Unpacking { .. } => None,
    }
}

fn bytes_bar(bar: &ProgressBar, bytes: u64) {
    bar.set_length(bytes);
    bar.set_style(bytes_style());
}

fn bytes_style() -> ProgressStyle {
    // The template is a constant: were it wrong, the default is a bar too.
    ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
