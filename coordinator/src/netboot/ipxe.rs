//! iPXE scripts, as pure text: boot the live image, go to the local disk, ask again with the MAC address.

use vetting_protocol::ids::{MacAddress, RunId};

use super::script::{INITRD, KERNEL, LiveBoot, kernel_parameters};

/// Names below `/boot/files/` of memtest86+, for BIOS and for UEFI, and the files of the image's netboot folder.
pub const MEMTEST: [(&str, &str); 2] =
    [("memtest.bin", "memtest86+x64.bin"), ("memtest.efi", "memtest86+x64.efi")];

/// Loads memtest86+. If it does not load, the machine asks again; nothing it does is lost.
pub fn memtest_boot(
    base_url: &str,
    host_name: &str,
    mac: MacAddress,
    run_id: RunId,
    port: Option<&str>,
) -> String {
    let (parameters, watched) = match port {
        Some(port) => (format!("console={port},115200 nopause nobench"), format!("watched over {port}")),
        None => ("nopause nobench".to_owned(), "unwatched".to_owned()),
    };
    format!(
        "#!ipxe\n\
         echo vetting: host {host_name}, run {run_id}: memtest86+, {watched}\n\
         imgfree\n\
         iseq ${{platform}} efi && goto efi ||\n\
         kernel --name memtest {base_url}/boot/files/memtest.bin?mac={mac} {parameters} || goto failed\n\
         boot || goto failed\n\
         :efi\n\
         kernel --name memtest {base_url}/boot/files/memtest.efi?mac={mac} {parameters} || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo vetting: memtest86+ did not load; trying again in 10 s\n\
         sleep 10\n\
         chain --autofree --replace {base_url}/boot/ipxe?mac={mac} || goto failed\n"
    )
}

/// Loads the live image with what the agent must know. A download that fails is tried again, since the coordinator
/// may be restarting.
pub fn live_boot(boot: &LiveBoot<'_>) -> String {
    let LiveBoot { base_url, mac, errand, .. } = boot;
    let parameters = [vec![format!("initrd={INITRD}")], kernel_parameters(boot)].concat().join(" ");
    format!(
        "#!ipxe\n\
         echo vetting: {words}\n\
         imgfree\n\
         kernel --name {KERNEL} {base_url}/boot/files/{KERNEL}?mac={mac} {parameters} || goto failed\n\
         initrd --name {INITRD} {base_url}/boot/files/{INITRD}?mac={mac} || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo vetting: the live image did not load; trying again in 10 s\n\
         sleep 10\n\
         chain --autofree --replace {base_url}/boot/ipxe?mac={mac} || goto failed\n",
        words = errand.words(),
    )
}

/// For a script that came without a MAC address: the machine fills in the one of the card it booted from.
pub fn ask_with_mac(base_url: &str) -> String {
    format!(
        "#!ipxe\n\
         :again\n\
         chain --autofree --replace {base_url}/boot/ipxe?mac=${{netX/mac}} || goto failed\n\
         :failed\n\
         echo vetting: no answer from the coordinator; trying again in 10 s\n\
         sleep 10\n\
         goto again\n"
    )
}

/// For a machine whose run cannot go on just now because the coordinator cannot store anything.
pub fn ask_again_later(base_url: &str, mac: MacAddress) -> String {
    format!(
        "#!ipxe\n\
         :failed\n\
         echo vetting: the coordinator cannot write to its database; trying again in 10 s\n\
         sleep 10\n\
         chain --autofree --replace {base_url}/boot/ipxe?mac={mac} || goto failed\n"
    )
}

/// For iPXE that was loaded without being told what to do: it takes an address and asks us.
pub fn autoexec(base_url: &str) -> String {
    format!(
        "#!ipxe\n\
         :again\n\
         dhcp || goto failed\n\
         chain --autofree --replace {base_url}/boot/ipxe?mac=${{netX/mac}} || goto failed\n\
         :failed\n\
         echo vetting: no answer from the coordinator; trying again in 10 s\n\
         sleep 10\n\
         goto again\n"
    )
}

/// For a known machine that has nothing to do here.
pub fn local_disk(host_name: &str) -> String {
    format!(
        "#!ipxe\necho vetting: host {host_name} has no waiting run; starting from the local disk\n{GO_ON}"
    )
}

/// For a machine nobody registered: says how to, and starts from its disk.
pub fn unknown_machine(mac: MacAddress) -> String {
    format!(
        "#!ipxe\n\
         echo vetting: {mac} is not a registered machine. To register it:\n\
         echo   vetting-coordinator host add NAME --mac {mac} --spec FILE\n\
         echo starting from the local disk\n\
         sleep 5\n{GO_ON}"
    )
}

/// UEFI firmware takes its next boot entry after a loader that failed; after one that ended well some opens its menu
/// (EDK2's boot manager does). A BIOS may stop there, so its first disk is started.
const GO_ON: &str = "iseq ${platform} pcbios && goto bios || exit 1\n\
                     :bios\n\
                     sanboot --no-describe --drive 0x80 || exit 1\n";

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
            extra_kernel_args: "mitigations=off\nboot",
        };
        insta::assert_snapshot!("live_boot", live_boot(&boot));
        let enrolling = live_boot(&LiveBoot { errand: Errand::Enrol, ..boot });
        assert!(enrolling.contains(" vetting.enrol ") && !enrolling.contains("vetting.claim"), "{enrolling}");
        let tested = live_boot(&LiveBoot { memtest_patterns: Some(4), ..boot });
        assert!(tested.contains(" memtest=4 "), "{tested}");
        let memtest = memtest_boot("http://10.0.2.2:8080", "rack1-u07", mac(), RunId(7), Some("ttyS1"));
        insta::assert_snapshot!("memtest_boot", memtest);
        insta::assert_snapshot!("ask_with_mac", ask_with_mac("http://10.0.2.2:8080"));
        insta::assert_snapshot!("autoexec", autoexec("http://192.0.2.1:8080"));
        insta::assert_snapshot!("local_disk", local_disk("rack1-u07"));
        insta::assert_snapshot!("unknown_machine", unknown_machine(mac()));
    }

    #[test]
    fn every_script_is_one() {
        for script in
            [ask_with_mac("http://h"), autoexec("http://h"), local_disk("h"), unknown_machine(mac())]
        {
            assert!(script.starts_with("#!ipxe\n") && script.ends_with('\n'));
        }
    }
}
