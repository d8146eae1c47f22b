//! What a Node says of the machine it is on.

use std::fs;

/// The machine's identity and system. What can't be found out is empty: the API asks for none of it to be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's UUID, where this user may read it; else the machine id, as cAdvisor does.
    pub system_uuid: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
}

impl Machine {
    /// Reads them of this machine.
    pub fn read() -> Machine {
        let machine_id = first_of(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
        let system_uuid = match first_of(&[
            "/sys/class/dmi/id/product_uuid",
            "/proc/device-tree/vm,uuid",
        ]) {
            uuid if uuid.is_empty() => machine_id.clone(),
            uuid => uuid,
        };
        Machine {
            machine_id,
            system_uuid,
            boot_id: first_of(&["/proc/sys/kernel/random/boot_id"]),
            kernel_version: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            os_image: pretty_name(&first_of(&["/etc/os-release", "/usr/lib/os-release"])),
        }
    }
}

fn first_of(files: &[&str]) -> String {
    let text = files.iter().find_map(|file| {
        fs::read_to_string(file)
            .ok()
            .filter(|text| !text.trim().is_empty())
    });
    text.unwrap_or_default()
        .trim_matches(['\0', '\n', ' '])
        .to_owned()
}

fn pretty_name(os_release: &str) -> String {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_name_is_read_from_os_release() {
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"),
            "Debian GNU/Linux 13"
        );
        assert_eq!(pretty_name(""), "Linux");
    }

    #[test]
    fn every_linux_has_a_kernel_and_a_boot() {
        let machine = Machine::read();
        assert!(
            !machine.kernel_version.is_empty() && !machine.boot_id.is_empty(),
            "{machine:?}"
        );
    }
}
