//! Kubernetes quantities as people type them: `64Mi`, `0.5`, `250m`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Reads a memory size: a Kubernetes quantity of bytes, or docker's lower-case suffixes.
///
/// # Errors
/// When it is not a positive amount.
pub(crate) fn memory(text: &str) -> Result<Quantity, String> {
    let kubernetes = match text.strip_suffix(['k', 'm', 'g', 'b']) {
        // docker's: 64m is 64 MiB there, and never 64 thousandths of a byte.
        Some(number) if text.ends_with('k') => format!("{number}Ki"),
        Some(number) if text.ends_with('m') => format!("{number}Mi"),
        Some(number) if text.ends_with('g') => format!("{number}Gi"),
        Some(number) => number.to_owned(),
        None => text.to_owned(),
    };
    let quantity = Quantity(kubernetes);
    match lifecycle::quantity::bytes(&quantity) {
        Some(bytes) if bytes > 0 => Ok(quantity),
        _ => Err(format!(
            "{text:?} is no amount of memory; write it like 64Mi, 1Gi or 512k"
        )),
    }
}

/// Reads a number of CPUs: `0.5`, `2` or `250m`.
///
/// # Errors
/// When it is not a positive number.
pub(crate) fn cpus(text: &str) -> Result<Quantity, String> {
    let quantity = Quantity(text.to_owned());
    match lifecycle::quantity::milli(&quantity) {
        Some(milli) if milli > 0 => Ok(quantity),
        _ => Err(format!(
            "{text:?} is no number of CPUs; write it like 0.5, 2 or 250m"
        )),
    }
}
