//! Progress of pulls and compiles, for people: bars on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runtime::CompileProgress;

/// Tells what takes long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reporter {
    shown: bool,
}

/// One thing that takes long; its bar goes with it.
pub(crate) struct Bar(ProgressBar);

impl Reporter {
    /// Bars on standard error, if that is a terminal and they are wanted.
    pub(crate) fn new(wanted: bool) -> Reporter {
        Reporter {
            shown: wanted && std::io::stderr().is_terminal(),
        }
    }

    fn bar(self, message: String) -> Bar {
        let target = match self.shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Bar(ProgressBar::with_draw_target(None, target).with_message(message))
    }

    /// A pull has begun.
    pub(crate) fn pull(self, name: &str) -> Bar {
        let bar = self.bar(format!("Pulling {name}"));
        bar.animate();
        bar
    }

    /// A module's code is asked for; nothing is shown while it is in the cache.
    pub(crate) fn compile(self, name: &str) -> Bar {
        self.bar(format!("Compiling {name}"))
    }
}

impl Bar {
    fn animate(&self) {
        if !self.0.is_hidden() {
            self.0.enable_steady_tick(Duration::from_millis(100));
        }
    }

    /// What a pull is to call with its progress.
    pub(crate) fn reports(&self) -> Option<Arc<dyn Fn(image::Progress) + Send + Sync>> {
        if self.0.is_hidden() {
            return None;
        }
        let bar = self.0.clone();
        Some(Arc::new(move |progress| match progress {
            image::Progress::Resolved { bytes, .. } => {
                bar.set_length(bytes);
                bar.set_style(bytes_style());
            }
            image::Progress::Fetched { bytes } => bar.inc(bytes),
            image::Progress::Retry { reason, after } => {
                bar.println(format!("{reason}; again in {after:?}"));
            }
            image::Progress::Unpacking { diff_id } => {
                let short: String = diff_id.to_string().chars().take(19).collect();
                bar.set_message(format!("Unpacking {short}"));
            }
        }))
    }

    /// A compilation got so far.
    pub(crate) fn at(&self, stage: CompileProgress) {
        if let CompileProgress::Queued = stage {
            self.0.set_prefix("waiting: ");
        }
        self.animate();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn bytes_style() -> ProgressStyle {
    // The template is a constant: were it wrong, the default is a bar too.
    ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
