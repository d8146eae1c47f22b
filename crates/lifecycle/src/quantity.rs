//! Quantities as `apimachinery/pkg/api/resource` reads them: `500m`, `1.5Gi`, `2e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// In thousandths, rounded up, at most `u64::MAX`: of a CPU, thousandths of a core. `None` if it
/// is no quantity. One below 0 is 0.
pub fn milli(quantity: &Quantity) -> Option<u64> {
    parse_milli(&quantity.0).map(|milli| u64::try_from(milli).unwrap_or(u64::MAX))
}

/// In whole units, rounded up, at most `u64::MAX`: of a memory, bytes. `None` if it is no
/// quantity. One below 0 is 0.
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    let milli = parse_milli(&quantity.0)?;
    Some(u64::try_from(milli.div_ceil(1000)).unwrap_or(u64::MAX))
}

/// `text` in thousandths, rounded up, at most `u128::MAX`; `None` if it is no quantity. One below
/// 0 is 0, as no resource is.
pub(crate) fn parse_milli(text: &str) -> Option<u128> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (factor, exponent) = factor(suffix)?;
    if negative {
        return Some(0);
    }
    // More digits than these are beyond what any resource counts; rounding up keeps them safe.
    let kept = fraction.get(..fraction.len().min(18)).unwrap_or_default();
    let digits = format!("{whole}{kept}");
    let dropped = fraction
        .get(kept.len()..)
        .is_some_and(|rest| rest.contains(|c| c != '0'));
    let mantissa: u128 = digits.trim_start_matches('0').parse().unwrap_or_else(|_| {
        if digits.chars().all(|c| c == '0') {
            0
        } else {
            u128::MAX
        }
    });
    let mantissa = mantissa
        .saturating_add(u128::from(dropped))
        .saturating_mul(factor);
    let kept = i64::try_from(kept.len()).unwrap_or(18);
    Some(scale(
        mantissa,
        exponent.saturating_add(3).saturating_sub(kept),
    ))
}

/// `mantissa × 10^exponent`, rounded up.
fn scale(mantissa: u128, exponent: i64) -> u128 {
    let power = |exponent: u64| {
        u32::try_from(exponent)
            .ok()
            .and_then(|exponent| 10u128.checked_pow(exponent))
    };
    match power(exponent.unsigned_abs()) {
        Some(power) if exponent.is_negative() => mantissa.div_ceil(power),
        Some(power) => mantissa.saturating_mul(power),
        None if mantissa == 0 => 0,
        None if exponent.is_negative() => 1,
        None => u128::MAX,
    }
}

/// A suffix as a factor and a power of ten.
fn factor(suffix: &str) -> Option<(u128, i64)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_api_reads() {
        for (text, milli) in [
            ("0", 0),
            ("1", 1000),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("1.", 1000),
            ("1.5Gi", 1_610_612_736_000),
            ("1k", 1_000_000),
            ("2e3", 2_000_000),
            ("2E3", 2_000_000),
            ("2e-3", 2),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1n", 1),
            ("0n", 0),
            ("+1", 1000),
            ("-1", 0),
            ("0.0001", 1),
            ("0.00000000000000000000001", 1),
            ("0e99999", 0),
            ("0e-99999", 0),
            ("0.50000000000000000000000", 500),
            ("0.50000000000000000000001", 501),
            ("1u", 1),
            ("1001u", 2),
            ("7M", 7_000_000_000),
            ("7G", 7_000_000_000_000),
            ("7T", 7_000_000_000_000_000),
            ("7P", 7_000_000_000_000_000_000),
            ("1Ki", 1_024_000),
            ("1Mi", 1_048_576_000),
            ("1Ti", 1_099_511_627_776_000),
            ("1Pi", 1_125_899_906_842_624_000),
            ("1Ei", 1_152_921_504_606_846_976_000),
        ] {
            assert_eq!(parse_milli(text), Some(milli), "{text}");
        }
        assert_eq!(parse_milli("9e99999"), Some(u128::MAX));
        assert_eq!(parse_milli("9e-99999"), Some(1));
        assert_eq!(parse_milli(&"9".repeat(99)), Some(u128::MAX));
        for text in [
            "", "m", "1x", "1 Gi", "1.2.3", "e3", "1e", "ein", "١", "-1x", ".", "--1",
        ] {
            assert_eq!(parse_milli(text), None, "{text}");
        }
    }

    #[test]
    fn counts_whole_units_and_thousandths_up_to_what_a_number_holds() {
        let quantity = |text: &str| Quantity(text.to_owned());
        for (text, whole, thousandths) in [
            ("1500m", 2, 1500),
            ("-1", 0, 0),
            ("64Mi", 64 << 20, (64 << 20) * 1000),
            ("1E", 10u64.pow(18), u64::MAX),
            ("99E", u64::MAX, u64::MAX),
        ] {
            let read = (bytes(&quantity(text)), milli(&quantity(text)));
            assert_eq!(read, (Some(whole), Some(thousandths)), "{text}");
        }
        assert_eq!((bytes(&quantity("x")), milli(&quantity("x"))), (None, None));
    }
}
