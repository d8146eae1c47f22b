//! What commands print: one table as kubectl's, JSON, YAML or names, the same for all of them.
//!
//! Must not know what it prints. Text that guests or registries had a hand in is printed as text: a
//! control character in a cell is shown and never obeyed by the terminal.

use std::io::Write;

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;

/// `-o`: the form of what is printed; without it a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// The names alone, one a line
    Name,
}

/// Between two columns, as kubectl has it.
const GAP: usize = 3;

/// Lines of cells under a header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Each column's title, and whether it is shown with `-o wide` alone.
    columns: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
    headless: bool,
}

impl Table {
    /// A table of these columns; those of `wide` follow them with `-o wide`.
    pub(crate) fn new(columns: &[&'static str], wide: &[&'static str]) -> Table {
        let shown = columns.iter().map(|title| (*title, false));
        let more = wide.iter().map(|title| (*title, true));
        Table {
            columns: shown.chain(more).collect(),
            ..Table::default()
        }
    }

    /// Without the line of titles.
    pub(crate) fn headless(mut self, headless: bool) -> Table {
        self.headless = headless;
        self
    }

    /// Adds a row: a cell for each column, those of `-o wide` among them.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The text, each line ended; nothing trails the last cell of a line.
    pub(crate) fn render(&self, wide: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|at| wide || self.columns.get(*at).is_some_and(|(_, only)| !only))
            .collect();
        let titles: Vec<String> = self.columns.iter().map(|(t, _)| (*t).to_owned()).collect();
        let lines = (!self.headless)
            .then_some(&titles)
            .into_iter()
            .chain(&self.rows);
        let cell = |line: &Vec<String>, at: usize| line.get(at).cloned().unwrap_or_default();
        let width = |at: usize| {
            lines
                .clone()
                .map(|line| cell(line, at).chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = shown.iter().map(|at| width(*at)).collect();
        let mut text = String::new();
        for line in lines.clone() {
            let padded: Vec<String> = shown
                .iter()
                .zip(&widths)
                .map(|(at, width)| format!("{:<width$}", cell(line, *at)))
                .collect();
            text.push_str(padded.join(&" ".repeat(GAP)).trim_end());
            text.push('\n');
        }
        text
    }
}

/// Prints `value` in the form that was asked for: `table` without `-o` or with `wide`, `names` one a
/// line with `-o name`. A reader that has gone (`| head`) is no error.
///
/// # Errors
/// When it can't be written.
pub(crate) fn print<T: Serialize + ?Sized>(
    format: Option<Format>,
    value: &T,
    table: impl FnOnce() -> Table,
    names: impl FnOnce() -> Vec<String>,
) -> anyhow::Result<()> {
    let text = match format {
        None => table().render(false),
        Some(Format::Wide) => table().render(true),
        Some(Format::Json) => json(value)?,
        Some(Format::Yaml) => yaml(value)?,
        Some(Format::Name) => lines(&names()),
    };
    out(text.as_bytes())
}

/// Pretty JSON, its last line ended.
///
/// # Errors
/// When the value has no JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("it has no form in JSON")?;
    text.push('\n');
    Ok(text)
}

/// One YAML document, its last line ended.
///
/// # Errors
/// When the value has no YAML.
pub(crate) fn yaml<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    // By way of JSON: then it holds exactly what -o json holds, under the same names.
    let value = serde_json::to_value(value).context("it has no form in JSON")?;
    let mut text = serde_saphyr::to_string(&value).context("it has no form in YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Texts, one a line.
pub(crate) fn lines(texts: &[String]) -> String {
    texts
        .iter()
        .map(|text| format!("{}\n", printable(text)))
        .collect()
}

/// Writes to standard output. A reader that has gone is no error: it has what it wanted.
///
/// # Errors
/// When it can't be written.
pub(crate) fn out(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("can't write to standard output")
        }
        _ => Ok(()),
    }
}

/// The text with its control characters spelled out.
fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// How long ago something was, as kubectl writes it (`duration.HumanDuration` of apimachinery).
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second());
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |large: i64, unit: &str, small: i64, of: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{of}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

/// An amount of bytes as people read it: `12.3MiB`.
pub(crate) fn bytes(amount: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if amount < 1024 {
        return format!("{amount}B");
    }
    let mut left = amount;
    let mut unit = "B";
    let mut tenths = 0;
    for next in UNITS {
        if left < 1024 {
            break;
        }
        tenths = (left % 1024) * 10 / 1024;
        left /= 1024;
        unit = next;
    }
    format!("{left}.{tenths}{unit}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "AGE"], &["IP"]);
        table.row(["a-long-name", "1s", "127.0.0.1"].map(str::to_owned));
        table.row(["b", "10m", ""].map(str::to_owned));
        table
    }

    #[test]
    fn columns_are_aligned_and_wide_ones_shown_when_asked_for() {
        assert_eq!(
            table().render(false),
            "NAME          AGE\na-long-name   1s\nb             10m\n"
        );
        assert_eq!(
            table().render(true),
            "NAME          AGE   IP\na-long-name   1s    127.0.0.1\nb             10m\n"
        );
        assert_eq!(
            table().headless(true).render(false),
            "a-long-name   1s\nb             10m\n"
        );
    }

    #[test]
    fn what_a_cell_says_the_terminal_does_not_obey() {
        let mut table = Table::new(&["M"], &[]);
        table.row(["\u{1b}[2Jred\nnext".to_owned()]);
        assert_eq!(table.render(false), "M\n\\u{1b}[2Jred\\nnext\n");
        assert_eq!(
            lines(&["a\u{7}".to_owned(), "b".to_owned()]),
            "a\\u{7}\nb\n"
        );
    }

    #[test]
    fn yaml_and_json_hold_the_same() {
        let value = serde_json::json!({
            "kind": "List", "items": [{"name": "1", "on": "yes", "n": 1, "t": true, "none": null,
            "text": "a: b\n# c", "empty": [], "map": {}}],
        });
        let back: serde_json::Value = serde_saphyr::from_str(&yaml(&value).unwrap()).unwrap();
        assert_eq!(back, value);
        let back: serde_json::Value = serde_json::from_str(&json(&value).unwrap()).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn ages_are_kubectls() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ago = |seconds: i64| {
            age(
                Timestamp::from_second(now.as_second() - seconds).unwrap(),
                now,
            )
        };
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_460, "3h11m"),
            (86_400, "24h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (86_400 * 8, "8d"),
            (86_400 * 730, "2y"),
            (86_400 * 731, "2y1d"),
            (86_400 * 365 * 8, "8y"),
        ] {
            assert_eq!(ago(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn bytes_have_units() {
        for (amount, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1536, "1.5KiB"),
            (64 << 20, "64.0MiB"),
            (u64::MAX, "16383.9PiB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }
}
