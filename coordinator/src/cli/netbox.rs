//! NetBox (its REST API, version 3 and 4): devices as hosts, and a vetted machine in the form that NetBox takes.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Client, Url};
use serde_json::{Value, json};
use vetting_protocol::inventory::{Inventory, Nic};
use vetting_protocol::secret::Secret;

/// How long NetBox may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Devices of one answer; NetBox gives at most 1000.
const PAGE: usize = 200;
/// Devices at most.
const MOST_DEVICES: usize = 10_000;
/// Interfaces of a device at most.
const MOST_INTERFACES: usize = 500;

/// Why NetBox's devices were not taken.
#[derive(Debug, thiserror::Error)]
pub enum NetBoxError {
    /// It is no address.
    #[error("`{url}` is no address of a NetBox, such as https://netbox.example.org")]
    Url {
        /// What was given.
        url: String,
    },
    /// A filter.
    #[error("`{filter}` is no filter; write it as site=lab")]
    Filter {
        /// What was given.
        filter: String,
    },
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[source] reqwest::Error),
    /// It cannot be reached.
    #[error("NetBox at {host} cannot be reached")]
    Unreachable {
        /// Where.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It refuses.
    #[error("NetBox at {host} answers HTTP {status} to {path}{}", if *.status == 403 || *.status == 401 { ": is the token good, and may it read devices?" } else { "" })]
    Refused {
        /// Where.
        host: String,
        /// What it said.
        status: u16,
        /// To what.
        path: String,
    },
    /// The answer is another.
    #[error("NetBox's answer is not understood: {what}")]
    NotUnderstood {
        /// What is wrong with it.
        what: String,
    },
}

/// A NetBox.
pub(super) struct NetBox {
    http: Client,
    base: Url,
    host: String,
    token: Secret,
}

impl NetBox {
    pub fn new(url: &str, token: &str) -> Result<Self, NetBoxError> {
        let refused = || NetBoxError::Url { url: url.to_owned() };
        let mut base = Url::parse(url).map_err(|_| refused())?;
        let host = base.host_str().ok_or_else(refused)?.to_owned();
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.password().is_some() {
            return Err(refused());
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(NetBoxError::Tls)?;
        Ok(Self { http, base, host, token: Secret::new(token.to_owned()) })
    }

    /// Its devices as `host import` takes them. The device type is the model.
    pub async fn devices(
        &self,
        filters: &[String],
        interface: Option<&str>,
    ) -> Result<Vec<Value>, NetBoxError> {
        let filters = filters
            .iter()
            .map(|filter| filter.split_once('=').ok_or(NetBoxError::Filter { filter: filter.clone() }))
            .collect::<Result<Vec<_>, _>>()?;
        let mut hosts = Vec::new();
        for device in self.all("api/dcim/devices/", &filters, MOST_DEVICES).await? {
            let Some(id) = device["id"].as_u64() else {
                return Err(NetBoxError::NotUnderstood { what: "a device has no id".to_owned() });
            };
            let id = id.to_string();
            let of_device = [("device_id", id.as_str())];
            let interfaces = self.all("api/dcim/interfaces/", &of_device, MOST_INTERFACES).await?;
            hosts.push(host(&device, &interfaces, interface));
        }
        Ok(hosts)
    }

    /// Everything of a list, page by page.
    async fn all(
        &self,
        path: &str,
        filters: &[(&str, &str)],
        most: usize,
    ) -> Result<Vec<Value>, NetBoxError> {
        let mut all = Vec::new();
        loop {
            let mut url =
                self.base.join(path).map_err(|_| NetBoxError::Url { url: self.base.to_string() })?;
            url.query_pairs_mut()
                .extend_pairs(filters)
                .append_pair("limit", &PAGE.to_string())
                .append_pair("offset", &all.len().to_string());
            let token = format!("Token {}", self.token.expose());
            let unreachable = |source: reqwest::Error| NetBoxError::Unreachable {
                host: self.host.clone(),
                source: source.without_url(),
            };
            let request =
                self.http.get(url).header("authorization", token).header("accept", "application/json");
            let answer = request.send().await.map_err(unreachable)?;
            if !answer.status().is_success() {
                let (host, path) = (self.host.clone(), path.to_owned());
                return Err(NetBoxError::Refused { host, status: answer.status().as_u16(), path });
            }
            let page: Value = answer.json().await.map_err(unreachable)?;
            let results = page["results"]
                .as_array()
                .ok_or_else(|| NetBoxError::NotUnderstood { what: format!("{path} has no `results`") })?;
            all.extend(results.iter().cloned());
            if results.is_empty() || page["next"].is_null() {
                return Ok(all);
            }
            if all.len() >= most {
                let what = format!("{path} has more than {most} entries; narrow it by --filter");
                return Err(NetBoxError::NotUnderstood { what });
            }
        }
    }
}

/// A device as `host import` takes it: what is missing there is a mistake that the import names.
fn host(device: &Value, interfaces: &[Value], boots_from: Option<&str>) -> Value {
    let mac = |interface: &Value| {
        let own = interface["mac_address"].as_str();
        let own = own.or_else(|| interface["primary_mac_address"]["mac_address"].as_str());
        own.map(str::to_ascii_lowercase)
    };
    let named = |interface: &&Value| boots_from.is_none_or(|name| interface["name"].as_str() == Some(name));
    let for_data: Vec<&Value> =
        interfaces.iter().filter(|interface| interface["mgmt_only"].as_bool() != Some(true)).collect();
    let boot = for_data.iter().copied().filter(named).find_map(mac);
    let mut seen: BTreeSet<String> = boot.iter().cloned().collect();
    let further: Vec<String> =
        for_data.into_iter().filter_map(mac).filter(|mac| seen.insert(mac.clone())).collect();
    let name = device["name"].as_str().map_or_else(|| device["display"].clone(), Value::from);
    let mut host = json!({
        "name": name,
        "mac": boot.unwrap_or_default(),
        "further_macs": further,
        "model": device["device_type"]["slug"],
    });
    let notes = ["description", "serial", "asset_tag"].map(|key| device[key].as_str().unwrap_or_default());
    let notes: Vec<&str> = notes.into_iter().filter(|text| !text.is_empty()).collect();
    if !notes.is_empty() {
        host["notes"] = Value::from(notes.join(", "));
    }
    host
}

/// A vetted machine as NetBox's API takes it: a device, then its interfaces and inventory items, each an object to be
/// posted to the address beside it. Others are named by what NetBox finds them by.
pub(super) fn export(host: &str, inventory: &Inventory, site: &str, role: &str) -> Value {
    let system = &inventory.system;
    let maker = system.manufacturer.as_deref().unwrap_or("Unknown");
    let device = json!({ "name": host });
    let interfaces: Vec<Value> = inventory
        .nics
        .iter()
        .map(|nic| {
            json!({
                "device": device, "name": nic.name, "type": interface_type(nic), "mac_address": nic.mac,
                "speed": nic.speed_mbps.map(|mbps| u64::from(mbps) * 1_000),
                "description": nic.model.as_deref().unwrap_or_default(),
            })
        })
        .collect();
    json!({
        "dcim/devices": [{
            "name": host,
            "device_type": {"manufacturer": {"name": maker}, "model": system.product.as_deref().unwrap_or("Unknown")},
            "role": {"slug": role}, "site": {"slug": site}, "status": "inventory",
            "serial": system.serial.as_deref().unwrap_or_default(),
            "asset_tag": inventory.chassis.asset_tag,
        }],
        "dcim/interfaces": interfaces,
        "dcim/inventory-items": items(&device, inventory),
    })
}

/// NetBox's word for a port of that speed; it knows none for one whose link is down.
fn interface_type(nic: &Nic) -> &'static str {
    match nic.speed_mbps {
        Some(100) => "100base-tx",
        Some(1_000) => "1000base-t",
        Some(2_500) => "2.5gbase-t",
        Some(5_000) => "5gbase-t",
        Some(10_000) => "10gbase-x-sfpp",
        Some(25_000) => "25gbase-x-sfp28",
        Some(40_000) => "40gbase-x-qsfpp",
        Some(100_000) => "100gbase-x-qsfp28",
        Some(_) | None => "other",
    }
}

fn items(device: &Value, inventory: &Inventory) -> Vec<Value> {
    let item = |name: &str,
                maker: Option<&String>,
                part: Option<&String>,
                serial: Option<&String>,
                words: String| {
        json!({
            "device": device, "name": name, "manufacturer": maker.map(|maker| json!({"name": maker})),
            "part_id": part.map_or("", String::as_str), "serial": serial.map_or("", String::as_str),
            "description": words, "discovered": true,
        })
    };
    let gib = |bytes: u64| format!("{} GiB", bytes >> 30);
    let cpus = inventory.cpu.packages.iter().map(|cpu| {
        item(&cpu.socket, inventory.cpu.vendor.as_ref(), cpu.version.as_ref(), None, "CPU".to_owned())
    });
    let dimms = inventory.memory.dimms.iter().map(|dimm| {
        let words = format!("{} {}", gib(dimm.size_bytes), dimm.memory_type.as_deref().unwrap_or("memory"));
        item(&dimm.slot, dimm.manufacturer.as_ref(), dimm.part_number.as_ref(), dimm.serial.as_ref(), words)
    });
    let disks = inventory.disks.iter().filter(|disk| !disk.boot_medium).map(|disk| {
        let kind = disk.kind.map_or("disk", |kind| kind.as_str());
        let words = format!("{kind}, {}", gib(disk.size_bytes));
        item(&disk.name, disk.vendor.as_ref(), disk.model.as_ref(), disk.serial.as_ref(), words)
    });
    let gpus = inventory
        .gpus
        .iter()
        .map(|gpu| item(&gpu.pci_address, None, gpu.model.as_ref(), gpu.serial.as_ref(), "GPU".to_owned()));
    let psus = inventory.psus.iter().filter(|psu| psu.present != Some(false)).map(|psu| {
        let words =
            psu.max_watts.map_or_else(|| "power supply".to_owned(), |watts| format!("{watts} W supply"));
        item(&psu.slot, psu.manufacturer.as_ref(), psu.model.as_ref(), psu.serial.as_ref(), words)
    });
    cpus.chain(dimms).chain(disks).chain(gpus).chain(psus).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Two devices, one a page, to whoever has the token.
    fn fake_answer(request: &str) -> (u16, Value) {
        if !request.to_ascii_lowercase().contains("authorization: token s3cr3t\r\n") {
            return (403, json!({"detail": "Invalid token"}));
        }
        let path = request.split(' ').nth(1).unwrap();
        let device =
            |id: u32| json!({"id": id, "name": format!("r1-u0{id}"), "device_type": {"slug": "r640"}});
        let card = |id: u32| json!({"name": "eno1", "mac_address": format!("3C:EC:EF:00:00:0{id}")});
        let page = |results: Value, next: Value| (200, json!({"count": 2, "next": next, "results": results}));
        match path.split_once('?').unwrap() {
            ("/netbox/api/dcim/devices/", "site=lab&limit=200&offset=0") => {
                // its idea of its own address is not followed
                page(json!([device(1)]), json!("http://192.0.2.1/steal"))
            }
            ("/netbox/api/dcim/devices/", "site=lab&limit=200&offset=1") => {
                page(json!([device(2)]), Value::Null)
            }
            ("/netbox/api/dcim/interfaces/", query) => {
                let id = query.strip_prefix("device_id=").unwrap()[..1].parse().unwrap();
                page(json!([card(id)]), Value::Null)
            }
            _ => (404, json!({})),
        }
    }

    async fn fake() -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let (status, body) = fake_answer(&String::from_utf8(request).unwrap());
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}/netbox")
    }

    #[tokio::test]
    async fn every_page_of_devices_becomes_hosts_and_a_bad_token_is_told() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = fake().await;
        let filters = ["site=lab".to_owned()];
        let devices = NetBox::new(&url, "s3cr3t").unwrap().devices(&filters, None).await.unwrap();
        let hosts = crate::host_list::from_yaml(&Value::from(devices).to_string(), None).unwrap();
        let hosts: Vec<_> =
            hosts.iter().map(|host| (host.values.name.as_str(), host.values.mac.to_string())).collect();
        assert_eq!(
            hosts,
            [("r1-u01", "3c:ec:ef:00:00:01".to_owned()), ("r1-u02", "3c:ec:ef:00:00:02".to_owned())]
        );
        let refused =
            NetBox::new(&url, "wr0ng").unwrap().devices(&filters, None).await.unwrap_err().to_string();
        assert!(refused.contains("HTTP 403") && refused.contains("is the token good"), "{refused}");
        assert!(!refused.contains("wr0ng"));
        assert!(NetBox::new("ftp://netbox", "x").is_err() && NetBox::new("netbox", "x").is_err());
    }

    #[test]
    fn a_vetted_machine_is_written_as_netbox_takes_it() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/judge/fixtures/dell-r640.inventory.json");
        let text = std::fs::read_to_string(file).unwrap();
        let inventory: Inventory = serde_json::from_str(&text).unwrap();
        let export = export("r1-u01", &inventory, "lab", "server");
        let device = &export["dcim/devices"][0];
        assert_eq!((&device["name"], &device["role"]["slug"]), (&json!("r1-u01"), &json!("server")));
        let interfaces = export["dcim/interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), inventory.nics.len());
        let items = export["dcim/inventory-items"].as_array().unwrap();
        let serials: Vec<&str> = items.iter().filter_map(|item| item["serial"].as_str()).collect();
        for disk in inventory.disks.iter().filter(|disk| !disk.boot_medium) {
            assert!(disk.serial.iter().all(|serial| serials.contains(&serial.as_str())), "{disk:?}");
        }
        assert!(items.iter().all(|item| item["device"]["name"] == "r1-u01" && item["discovered"] == true));
    }

    #[test]
    fn a_device_becomes_a_host_that_boots_from_its_first_card() {
        // NetBox 4.1 has `mac_address`, later ones `primary_mac_address`
        let interfaces = [
            json!({"name": "iDRAC", "mgmt_only": true, "mac_address": "3C:EC:EF:00:00:FF"}),
            json!({"name": "eno1", "mgmt_only": false, "mac_address": null}),
            json!({"name": "eno2", "mac_address": "3C:EC:EF:00:00:02"}),
            json!({"name": "bond0", "mac_address": "3C:EC:EF:00:00:02"}),
            json!({"name": "ens1f0", "primary_mac_address": {"id": 7, "mac_address": "3C:EC:EF:00:00:03"}}),
        ];
        let device = json!({"id": 1, "name": "r1-u01", "serial": "C0W2P32", "device_type": {"slug": "r640"}});
        let first = host(&device, &interfaces, None);
        assert_eq!(
            first,
            json!({"name": "r1-u01", "mac": "3c:ec:ef:00:00:02", "further_macs": ["3c:ec:ef:00:00:03"],
                "model": "r640", "notes": "C0W2P32"})
        );
        assert_eq!(host(&device, &interfaces, Some("ens1f0"))["mac"], "3c:ec:ef:00:00:03");
        let text = Value::from(vec![first, host(&device, &interfaces, Some("eth9"))]).to_string();
        let mistakes = crate::host_list::from_yaml(&text, None).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.what.starts_with("mac: ")), "{mistakes:?}");
    }
}
