//! How far an import is: a bar on a terminal, otherwise a line now and then.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::Layout;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: Option<ProgressBar>,
    channel: String,
    size: u64,
    said: Cell<Instant>,
}

impl Progress {
    /// Begins at nothing of `size`: bytes, or files where a directory is read.
    pub fn begin(channel: &str, size: u64, layout: Layout) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let of = match layout {
                Layout::Mbox | Layout::Jsonl => "{bytes}/{total_bytes}",
                Layout::Maildir | Layout::Eml => "{pos}/{len} files",
            };
            let template = format!("{{bar:30}} {of} {{eta}} {{msg}}");
            let style = ProgressStyle::with_template(&template);
            let bar = ProgressBar::new(size);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            channel: channel.to_owned(),
            size,
            said: Cell::new(Instant::now()),
        }
    }

    /// Everything up to `done` is durable.
    pub fn at(&self, done: u64, totals: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(totals.to_owned());
            return;
        }
        if self.said.get().elapsed() >= LINE_EVERY {
            self.said.set(Instant::now());
            let percent = done.saturating_mul(100) / self.size.max(1);
            eprintln!("{}: {percent} %, {totals}", self.channel);
        }
    }

    /// A line for the operator, above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
