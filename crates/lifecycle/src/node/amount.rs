//! Amounts as `apimachinery/pkg/api/resource` prints them.

/// With a suffix of 1024s where nothing is lost by it (`BinarySI`).
pub(super) fn binary(amount: u64) -> String {
    if amount < 1024 {
        return decimal(amount);
    }
    suffixed(amount, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

/// With a suffix of 1000s where nothing is lost by it (`DecimalSI`).
pub(super) fn decimal(amount: u64) -> String {
    suffixed(amount, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

fn suffixed(mut amount: u64, by: u64, suffixes: &[&str]) -> String {
    let mut suffixes = suffixes.iter().peekable();
    let mut suffix = suffixes.next().copied().unwrap_or_default();
    while amount > 0 && amount.is_multiple_of(by) && suffixes.peek().is_some() {
        amount /= by;
        suffix = suffixes.next().copied().unwrap_or_default();
    }
    format!("{amount}{suffix}")
}

/// Rounded, for people (`formatSize` of `pkg/kubelet/images`).
#[allow(clippy::cast_precision_loss)]
pub(super) fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "B" {
        return format!("{bytes} B");
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_as_go_prints_them() {
        for (amount, text) in [
            (0, "0"),
            (512, "512"),
            (1000, "1k"),
            (1024, "1Ki"),
            (100 << 20, "100Mi"),
            ((100 << 20) + 1024, "102401Ki"),
            (1025, "1025"),
            (1 << 60, "1Ei"),
        ] {
            assert_eq!(binary(amount), text);
        }
        assert_eq!(decimal(2_000_000), "2M");
        assert_eq!(decimal(1024), "1024");
        assert_eq!(
            [human(1023), human(1024), human(1536), human(5 << 40)],
            ["1023 B", "1.0 KiB", "1.5 KiB", "5.0 TiB"]
        );
    }
}
