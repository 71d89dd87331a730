//! The same scripts for GRUB, which Secure Boot accepts where iPXE is refused, as pure text.
//!
//! `grub.cfg` comes with GRUB itself and asks for the script of its machine over and over; a script that cannot do what
//! it should just ends. Refuses: menus; nobody sits before the machine.

use vetting_protocol::ids::MacAddress;

use super::script::{INITRD, KERNEL, LiveBoot, kernel_parameters};

/// Boot loaders of installed systems below `/EFI`, all of which Secure Boot accepts. The one for removable media comes
/// last: where a system has its own as well, that one only restores boot entries, and puts them first.
const INSTALLED_LOADERS: [&str; 11] = [
    "debian/shimx64.efi",
    "ubuntu/shimx64.efi",
    "redhat/shimx64.efi",
    "centos/shimx64.efi",
    "rocky/shimx64.efi",
    "almalinux/shimx64.efi",
    "fedora/shimx64.efi",
    "opensuse/shim.efi",
    "sles/shim.efi",
    "Microsoft/Boot/bootmgfw.efi",
    "BOOT/BOOTX64.EFI",
];

/// What GRUB runs when it has been loaded over the network: `http://HOST:PORT` is where scripts are.
pub fn ask_with_mac(base_url: &str) -> String {
    let from = device(base_url);
    format!(
        "while true; do\n\
         \x20 source \"{from}/boot/grub?mac=$net_default_mac\"\n\
         \x20 echo 'vetting: no answer from the coordinator; trying again in 10 s'\n\
         \x20 sleep 10\n\
         done\n"
    )
}

/// Loads the live image with what the agent must know.
pub(super) fn live_boot(boot: &LiveBoot<'_>) -> String {
    let LiveBoot { base_url, mac, errand, .. } = boot;
    let from = device(base_url);
    let parameters: Vec<String> = kernel_parameters(boot).iter().map(|word| quoted(word)).collect();
    format!(
        "echo {hello}\n\
         if linux '{from}/boot/files/{KERNEL}?mac={mac}' {parameters}; then\n\
         \x20 if initrd '{from}/boot/files/{INITRD}?mac={mac}'; then\n\
         \x20   boot\n\
         \x20 fi\n\
         fi\n\
         echo 'vetting: the live image did not load'\n",
        hello = quoted(&format!("vetting: {}", errand.words())),
        parameters = parameters.join(" "),
    )
}

/// `grub.cfg` asks again by itself.
pub(super) fn ask_again_later() -> String {
    "echo 'vetting: the coordinator cannot write to its database'\n".to_owned()
}

/// For a known machine that has nothing to do here.
pub(super) fn local_disk(host_name: &str) -> String {
    let text = format!("vetting: host {host_name} has no waiting run; starting from the local disk");
    format!("echo {}\n{}", quoted(&text), start_the_disk())
}

/// Starts what is installed. `exit` alone will not do: Debian's GRUB ends well by it whatever number is given, and then
/// some firmware opens its menu instead of taking its next boot entry (EDK2's boot manager does).
fn start_the_disk() -> String {
    format!(
        "for loader in {loaders}; do\n\
         \x20 if search --no-floppy --set=root --file /EFI/$loader; then\n\
         \x20   if chainloader /EFI/$loader; then\n\
         \x20     boot\n\
         \x20   fi\n\
         \x20 fi\n\
         done\n\
         echo 'vetting: no known boot loader on a disk; leaving it to the firmware'\n\
         exit\n",
        loaders = INSTALLED_LOADERS.join(" ")
    )
}

/// For a machine nobody registered.
pub(super) fn unknown_machine(mac: MacAddress) -> String {
    format!(
        "echo 'vetting: {mac} is not a registered machine. To register it:'\n\
         echo '  vetting-coordinator host add NAME --mac {mac} --spec FILE'\n\
         echo 'starting from the local disk'\n\
         sleep 5\n{go_on}",
        go_on = start_the_disk()
    )
}

/// `http://HOST:PORT` as GRUB names the place.
fn device(base_url: &str) -> String {
    format!("(http,{})", base_url.strip_prefix("http://").unwrap_or(base_url))
}

/// One word for GRUB's reader, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use vetting_protocol::ids::{RunId, Sha256Hex};
    use vetting_protocol::secret::Secret;

    use super::*;
    use crate::netboot::script::Errand;

    fn mac() -> MacAddress {
        "52:54:00:ab:cd:01".parse().unwrap()
    }

    #[test]
    fn the_scripts_are_as_reviewed() {
        let secret = Secret::new("c2VjcmV0".to_owned());
        let boot = LiveBoot {
            base_url: "http://10.0.2.2:8080",
            coordinator: "10.0.2.2:8443",
            ca_fingerprint: Sha256Hex::of(b"ca"),
            mac: mac(),
            errand: Errand::Run { host_name: "rack1-u07", run_id: RunId(7), claim_secret: &secret },
            now_ms: 1_700_000_000_000,
            memtest_patterns: None,
            extra_kernel_args: "mitigations=off\nopt='a;${b}'",
        };
        insta::assert_snapshot!("live_boot", live_boot(&boot));
        insta::assert_snapshot!("ask_with_mac", ask_with_mac("http://10.0.2.2:8080"));
        insta::assert_snapshot!("local_disk", local_disk("rack1-u07"));
        insta::assert_snapshot!("unknown_machine", unknown_machine(mac()));
    }

    #[test]
    fn no_word_can_end_its_quotes() {
        assert_eq!(quoted("a'b; reboot"), r"'a'\''b; reboot'");
    }
}
