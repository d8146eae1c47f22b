//! Image names in a file: a reference, or what lies beside the file.

use std::path::Path;

use image::Reference;

/// What may stand before a path, as with `coracle run`.
const TRANSPORTS: [&str; 4] = ["file:", "oci:", "oci-archive:", "docker-archive:"];

/// A container's image as the hands take it: a reference as it is, a path made absolute.
///
/// # Errors
/// When it is no reference, or the path leads to nothing.
pub(super) fn resolved(image: &str, folder: &Path) -> Result<String, String> {
    let transport = TRANSPORTS
        .iter()
        .find_map(|transport| Some((*transport, image.strip_prefix(transport)?)));
    let Some((transport, path)) = transport else {
        return match image.parse::<Reference>() {
            Ok(_) => Ok(image.to_owned()),
            Err(error) => Err(format!("{error}{}", hint(image))),
        };
    };
    let whole = folder.join(path);
    let (file, rest) = match (whole.exists(), path.rsplit_once(['#', ':'])) {
        // An export follows a module's path, an image's name an archive's.
        (false, Some((file, rest))) => {
            let mark = path
                .get(file.len()..path.len() - rest.len())
                .unwrap_or_default();
            (folder.join(file), format!("{mark}{rest}"))
        }
        _ => (whole, String::new()),
    };
    let file = std::fs::canonicalize(&file).map_err(|error| {
        format!(
            "{image:?}: {}: {error}; a relative path begins at the manifest's folder",
            file.display()
        )
    })?;
    Ok(format!("{transport}{}{rest}", file.display()))
}

fn hint(image: &str) -> &'static str {
    let is_path =
        image.starts_with(['.', '/']) || image.ends_with(".wasm") || image.ends_with(".wat");
    match is_path {
        true => "; for a module in a file write file:PATH",
        false => "",
    }
}

/// Whether an image lies in a file of this machine.
pub(super) fn is_local(image: &str) -> bool {
    TRANSPORTS
        .iter()
        .any(|transport| image.starts_with(transport))
}

/// What imagePullPolicy is where none is given: `Always` for the tag `latest` or none, else
/// `IfNotPresent`; a file is always there.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if is_local(image) {
        return "IfNotPresent";
    }
    match image.parse::<Reference>() {
        Ok(name) if name.digest().is_none() && name.tag().is_none_or(|tag| tag == "latest") => {
            "Always"
        }
        _ => "IfNotPresent",
    }
}
