//! Processors: `/proc/cpuinfo`, the topology in `/sys/devices/system/cpu`, and SMBIOS type 4 for the sockets.

use std::collections::{BTreeMap, BTreeSet};

use procfs::{CpuInfo, FromBufRead as _};
use smbioslib::{
    CoreCount, CoreCount2, ProcessorType, SMBiosProcessorInformation, ThreadCount, ThreadCount2,
};
use vetting_protocol::inventory::{Cpu, CpuPackage};

use super::absences::Absences;
use super::smbios::{Tables, meaningful, text};
use crate::host::Host;

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

/// The machine's processors.
pub(super) fn cpu(host: &Host, tables: &Tables, absent: &mut Absences) -> Cpu {
    let info = cpuinfo(host, absent);
    let field = |name: &str| {
        info.as_ref()
            .and_then(|info| info.get_field(0, name))
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let topology = topology(host, info.as_ref(), absent);
    let mut flags: Vec<String> =
        field("flags").map(|flags| flags.split_whitespace().map(str::to_owned).collect()).unwrap_or_default();
    flags.sort_unstable();
    flags.dedup();
    let microcode = field("microcode");
    if microcode.is_none() {
        absent.note("cpu.microcode", "/proc/cpuinfo has none");
    }
    Cpu {
        model: field("model name"),
        vendor: field("vendor_id"),
        sockets: topology.sockets,
        physical_cores: topology.cores,
        logical_cores: topology.threads,
        threads_per_core: topology.threads_per_core,
        numa_nodes: numa_nodes(host),
        microcode,
        max_mhz: max_mhz(host, absent),
        flags,
        packages: packages(tables, absent),
    }
}

/// `/proc/cpuinfo`; none when it cannot be read or names no CPU.
pub(super) fn cpuinfo(host: &Host, absent: &mut Absences) -> Option<CpuInfo> {
    let bytes = absent.value("cpu", host.bytes("/proc/cpuinfo"))?;
    match CpuInfo::from_buf_read(bytes.as_slice()) {
        Ok(info) if info.get_field(0, "processor").is_some() => Some(info),
        Ok(_) => {
            absent.note("cpu", "/proc/cpuinfo: names no CPU");
            None
        }
        Err(error) => {
            absent.note("cpu", format!("/proc/cpuinfo: {error}"));
            None
        }
    }
}

/// Counts over the CPUs that are online; 0 where they are not told.
struct Topology {
    sockets: u32,
    cores: u32,
    threads: u32,
    threads_per_core: u32,
}

fn topology(host: &Host, info: Option<&CpuInfo>, absent: &mut Absences) -> Topology {
    let online = online(host, info);
    if online.is_empty() {
        absent.note("cpu.topology", "no CPU is known to be online");
    }
    if let Ok(offline) = host.text(&format!("{CPUS}/offline")) {
        let present: BTreeSet<u32> =
            host.text(&format!("{CPUS}/present")).ok().and_then(|list| cpu_list(&list)).unwrap_or_default();
        let offline = cpu_list(&offline).unwrap_or_default();
        let count = offline.intersection(&present).count();
        if count > 0 {
            absent.note("cpu.offline", format!("{count} CPUs are present but offline and not counted"));
        }
    }
    let mut packages = BTreeSet::new();
    let mut cores: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut unplaced = 0;
    for cpu in &online {
        let Some((package, core)) =
            placed_by_sysfs(host, *cpu).or_else(|| info.and_then(|info| placed_by_cpuinfo(info, *cpu)))
        else {
            unplaced += 1;
            continue;
        };
        packages.insert(package.clone());
        *cores.entry((package, core)).or_default() += 1;
    }
    if unplaced > 0 {
        absent.note("cpu.topology", format!("{unplaced} online CPUs tell neither package nor core"));
        // a count of some of them is no count
        packages.clear();
        cores.clear();
    }
    Topology {
        sockets: count(packages.len()),
        cores: count(cores.len()),
        threads: count(online.len()),
        threads_per_core: cores.values().copied().max().unwrap_or(0),
    }
}

/// Package and core of a CPU. A core is named by the CPUs in it, since core ids repeat over dies.
fn placed_by_sysfs(host: &Host, cpu: u32) -> Option<(String, String)> {
    let directory = format!("{CPUS}/cpu{cpu}/topology");
    let package: u32 = host.number(&format!("{directory}/physical_package_id")).ok()?;
    let core = host
        .text(&format!("{directory}/core_cpus_list"))
        .or_else(|_| host.text(&format!("{directory}/thread_siblings_list")))
        .ok()
        .filter(|list| !list.is_empty())?;
    Some((package.to_string(), core))
}

fn placed_by_cpuinfo(info: &CpuInfo, cpu: u32) -> Option<(String, String)> {
    let wanted = cpu.to_string();
    let position = (0..info.num_cores())
        .find(|position| info.get_field(*position, "processor") == Some(wanted.as_str()))?;
    let package = info.get_field(position, "physical id")?;
    let core = info.get_field(position, "core id")?;
    Some((package.to_owned(), core.to_owned()))
}

/// Logical CPUs that are online: sysfs, or else what `/proc/cpuinfo` lists.
fn online(host: &Host, info: Option<&CpuInfo>) -> BTreeSet<u32> {
    host.text(&format!("{CPUS}/online")).ok().and_then(|list| cpu_list(&list)).unwrap_or_else(|| {
        let Some(info) = info else { return BTreeSet::new() };
        (0..info.num_cores())
            .filter_map(|position| info.get_field(position, "processor")?.parse().ok())
            .collect()
    })
}

/// The kernel's list format: `0-3,8,10-11`. None when it is anything else, or has more CPUs than Linux can.
fn cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    const MOST: u32 = 8192;
    let mut cpus = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn numa_nodes(host: &Host) -> u32 {
    let with = |file: &str| {
        host.text(&format!("{NODES}/{file}")).ok().and_then(|list| cpu_list(&list)).unwrap_or_default()
    };
    let used = with("has_memory").union(&with("has_cpu")).count();
    // A kernel without NUMA has no such files: all memory is one node.
    count(used.max(1))
}

fn max_mhz(host: &Host, absent: &mut Absences) -> Option<u32> {
    let policies = host.list(&format!("{CPUS}/cpufreq")).unwrap_or_default();
    let highest = policies
        .iter()
        .filter(|name| name.starts_with("policy"))
        .filter_map(|name| host.number::<u32>(&format!("{CPUS}/cpufreq/{name}/cpuinfo_max_freq")).ok())
        .max();
    if highest.is_none() {
        absent.note("cpu.max_mhz", format!("{CPUS}/cpufreq: no policy tells a highest frequency"));
    }
    highest.map(|khz| khz / 1000)
}

/// SMBIOS type 4: sockets with a central processor in them.
fn packages(tables: &Tables, absent: &mut Absences) -> Vec<CpuPackage> {
    let mut packages = Vec::new();
    let mut sockets = 0;
    for found in tables.all::<SMBiosProcessorInformation<'_>>() {
        sockets += 1;
        let is_cpu = found.processor_type().is_none_or(|kind| kind.value == ProcessorType::CentralProcessor);
        if !is_cpu || !found.status().is_some_and(|status| status.socket_populated()) {
            continue;
        }
        let socket = meaningful(&found.socket_designation()).unwrap_or_else(|| format!("CPU {sockets}"));
        packages.push(CpuPackage {
            version: text(&format!("cpu.packages.{socket}.version"), &found.processor_version(), absent),
            cores: core_count(&found),
            threads: thread_count(&found),
            socket,
        });
    }
    if sockets == 0 {
        tables.note_missing("cpu.packages", 4, absent);
    }
    packages
}

fn core_count(found: &SMBiosProcessorInformation<'_>) -> Option<u32> {
    match found.core_count()? {
        CoreCount::Count(cores) => Some(u32::from(cores)),
        CoreCount::SeeCoreCount2 => match found.core_count_2()? {
            CoreCount2::Count(cores) => Some(u32::from(cores)),
            CoreCount2::Unknown | CoreCount2::Reserved => None,
        },
        CoreCount::Unknown => None,
    }
}

fn thread_count(found: &SMBiosProcessorInformation<'_>) -> Option<u32> {
    match found.thread_count()? {
        ThreadCount::Count(threads) => Some(u32::from(threads)),
        ThreadCount::SeeThreadCount2 => match found.thread_count_2()? {
            ThreadCount2::Count(threads) => Some(u32::from(threads)),
            ThreadCount2::Unknown | ThreadCount2::Reserved => None,
        },
        ThreadCount::Unknown => None,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_read_as_the_kernel_writes_them() {
        let all = |text| cpu_list(text).map(|cpus| cpus.into_iter().collect::<Vec<_>>());
        assert_eq!(all("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(all(""), Some(Vec::new()));
        for wrong in ["a", "3-1", "0-99999999", "1-", "-1"] {
            assert_eq!(all(wrong), None, "{wrong}");
        }
    }

    /// Writes `cpu/topology` files of (cpu, package, siblings).
    fn machine(cpus: &[(u32, u32, &str)], online: &str) -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join(CPUS.trim_start_matches('/'));
        for (cpu, package, siblings) in cpus {
            let topology = base.join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(topology.join("physical_package_id"), format!("{package}\n")).unwrap();
            std::fs::write(topology.join("core_cpus_list"), format!("{siblings}\n")).unwrap();
        }
        std::fs::write(base.join("online"), online).unwrap();
        let host = Host::recorded(directory.path());
        (directory, host)
    }

    fn counts(host: &Host) -> (u32, u32, u32, u32) {
        let found = topology(host, None, &mut Absences::default());
        (found.sockets, found.cores, found.threads, found.threads_per_core)
    }

    #[test]
    fn hybrid_cores_with_and_without_second_thread() {
        let (_directory, host) = machine(&[(0, 0, "0-1"), (1, 0, "0-1"), (2, 0, "2"), (3, 0, "3")], "0-3");
        assert_eq!(counts(&host), (1, 3, 4, 2));
    }

    #[test]
    fn two_sockets_with_core_lists_of_their_own() {
        let (_directory, host) =
            machine(&[(0, 0, "0,2"), (1, 1, "1,3"), (2, 0, "0,2"), (3, 1, "1,3")], "0-3");
        assert_eq!(counts(&host), (2, 2, 4, 2));
    }

    #[test]
    fn offline_cpus_do_not_count() {
        let (_directory, host) = machine(&[(0, 0, "0"), (1, 1, "1")], "0");
        assert_eq!(counts(&host), (1, 1, 1, 1));
    }

    #[test]
    fn without_sysfs_the_ids_of_cpuinfo_count() {
        let text = "processor\t: 0\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                    processor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                    processor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\n\n";
        let info = CpuInfo::from_buf_read(text.as_bytes()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let host = Host::recorded(directory.path());
        let found = topology(&host, Some(&info), &mut Absences::default());
        assert_eq!((found.sockets, found.cores, found.threads, found.threads_per_core), (2, 2, 3, 2));
    }
}
