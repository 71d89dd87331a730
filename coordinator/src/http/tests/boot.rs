//! Boot scripts and files of the image.

use std::net::Ipv6Addr;

use reqwest::Method;
use vetting_protocol::run::RunState;

use super::*;

#[tokio::test]
async fn a_waiting_run_boots_the_live_image() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    assert_eq!(lab.power.0.lock().unwrap().len(), 1);
    assert_eq!(lab.detail(run).await.summary.state, RunState::Waking);
    // Debian 12's iPXE escapes the colons
    let script = lab.script("52%3A54%3A00%3Aab%3Acd%3A01").await;
    let secret = script.split_once("vetting.claim=").unwrap().1.split(' ').next().unwrap().to_owned();
    let shown = script
        .replace(&secret, "SECRET")
        .replace(&lab.server.http.to_string(), "HTTP")
        .replace(&format!("127.0.0.1:{}", lab.server.https.port()), "HTTPS")
        .replace(&lab.server.ca_fingerprint.to_string(), "FINGERPRINT");
    insta::assert_snapshot!(shown);
    assert_eq!(lab.detail(run).await.summary.state, RunState::Booting);

    lab.http(Method::GET, &format!("/boot/files/initrd.zst?mac={MAC}"))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let served = loop {
        if let Some(served) = lab.detail(run).await.boot.image_served_ms {
            break served;
        }
    };
    assert_eq!(served, START_MS);
}

#[tokio::test]
async fn a_machine_that_comes_over_ipv6_is_sent_back_over_ipv6() {
    let lab = Lab::open_at(Ipv6Addr::LOCALHOST.into(), StoreOptions::default()).await;
    lab.add_host("node1", MAC).await;
    lab.start_run("node1").await;
    let script = lab.script(MAC).await;
    let Server { http, https, .. } = &lab.server;
    for words in [format!("http://{http}/boot/files/vmlinuz"), format!("vetting.coordinator={https} ")] {
        assert!(words.contains("[::1]:") && script.contains(&words), "{words} is in {script}");
    }
}

#[test]
fn agents_are_told_a_port_and_brackets() {
    for (host, told) in [
        ("lab.example", "lab.example:8443"),
        ("lab.example:1", "lab.example:1"),
        ("192.0.2.1", "192.0.2.1:8443"),
        ("fd00::10", "[fd00::10]:8443"),
        ("[fd00::10]", "[fd00::10]:8443"),
        ("[fd00::10]:1", "[fd00::10]:1"),
    ] {
        assert_eq!(crate::config::with_port(host, 8443), told);
    }
}

#[tokio::test]
async fn both_kinds_of_addresses_come_to_the_unspecified_one() {
    let lab = Lab::open_at(Ipv6Addr::UNSPECIFIED.into(), StoreOptions::default()).await;
    for host in ["127.0.0.1", "[::1]"] {
        let reached = format!("http://{host}:{}", lab.server.http.port());
        let script = reqwest::get(format!("{reached}/boot/ipxe")).await.unwrap().text().await.unwrap();
        assert!(script.contains(&format!("{reached}/boot/ipxe?mac=")), "{script}");
    }
}

#[tokio::test]
async fn grub_over_http_boot_learns_the_length_of_everything_first() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    lab.start_run("node1").await;
    let script = format!("/boot/grub?mac={MAC}");
    for path in ["/grub/grub.cfg", &script] {
        let told = lab.http(Method::HEAD, path).send().await.unwrap();
        assert_eq!(told.status(), 200, "{path}");
        let length = told.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap();
        let got = lab.http(Method::GET, path).send().await.unwrap().text().await.unwrap();
        assert_eq!(got.len(), length, "{path}: {got}");
    }
    let config = lab.http(Method::GET, "/grub/grub.cfg").send().await.unwrap().text().await.unwrap();
    assert!(config.contains(&format!("(http,{})/boot/grub?mac=", lab.server.http)), "{config}");
}

#[tokio::test]
async fn machines_without_a_run_start_from_their_disk() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let script = lab.script("5254.00AB.CD01").await;
    assert!(script.contains("no waiting run") && script.contains("sanboot"), "{script}");
    let script = lab.http(Method::GET, "/boot/ipxe").send().await.unwrap().text().await.unwrap();
    assert!(script.contains("/boot/ipxe?mac=${netX/mac}"), "{script}");
    let nonsense = lab.http(Method::GET, "/boot/ipxe?mac=hello").send().await.unwrap();
    assert_eq!(nonsense.status(), 400);
}

#[tokio::test]
async fn an_unknown_machine_is_told_of_once_and_can_be_adopted() {
    let lab = Lab::open().await;
    for _ in 0..3 {
        assert!(lab.script(MAC).await.contains("host add NAME --mac 52:54:00:ab:cd:01"));
    }
    let told: Vec<_> =
        lab.events().await.into_iter().filter(|event| event.kind == "unknown_machine").collect();
    assert_eq!(told.len(), 1);
    let mac = told[0].data.as_ref().unwrap()["mac"].as_str().unwrap().to_owned();
    lab.add_host("adopted", &mac).await;
    lab.start_run("adopted").await;
    assert!(lab.script(MAC).await.contains("vetting.claim="));
}

#[tokio::test]
async fn files_of_the_image_and_no_others_are_served_in_parts_too() {
    let lab = Lab::open().await;
    let get = |path: &str| lab.http(Method::GET, path);
    let whole = get("/boot/files/initrd.zst").send().await.unwrap();
    assert_eq!((whole.status().as_u16(), whole.content_length()), (200, Some(10)));
    let etag = whole.headers()["etag"].clone();
    assert_eq!(whole.text().await.unwrap(), "0123456789");

    let part = get("/boot/files/initrd.zst").header("Range", "bytes=2-4").send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()),
        (206, "bytes 2-4/10")
    );
    assert_eq!(part.text().await.unwrap(), "234");
    let beyond = get("/boot/files/initrd.zst").header("Range", "bytes=10-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
    let same = get("/boot/files/initrd.zst").header("If-None-Match", etag).send().await.unwrap();
    assert_eq!(same.status(), 304);
    let stale = get("/boot/files/initrd.zst").header("Range", "bytes=2-4").header("If-Range", "\"old\"");
    assert_eq!(stale.send().await.unwrap().status(), 200);

    let head = lab.http(Method::HEAD, "/boot/files/vmlinuz").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "6"));
    // the disc is served where there is one, and BMCs read it sector by sector
    assert_eq!(refused(get("/boot/files/vetting.iso")).await, refusal(404, "not-found"));
    std::fs::write(lab.config.image.dir.join("vetting.iso"), "sectors").unwrap();
    let disc = get("/boot/files/vetting.iso").header("Range", "bytes=3-5").send().await.unwrap();
    assert_eq!(
        (disc.status().as_u16(), &disc.headers()["content-range"]),
        (206, &"bytes 3-5/7".parse().unwrap())
    );
    assert_eq!(disc.text().await.unwrap(), "tor");
    let head = lab.http(Method::HEAD, "/boot/files/vetting.iso").send().await.unwrap();
    assert_eq!(
        (&head.headers()["content-length"], &head.headers()["accept-ranges"]),
        (&"7".parse().unwrap(), &"bytes".parse().unwrap())
    );
    for path in
        ["/boot/files/other", "/boot/files/..%2fvetting.db", "/boot/files/../vetting.db", "/api/v1/hosts"]
    {
        assert_eq!(refused(get(path)).await, refusal(404, "not-found"), "{path}");
    }
    assert_eq!(get("/healthz").send().await.unwrap().status(), 200);
}
