//! The server over a real socket, with a client by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use shared::config::Config;
use shared::metrics::{ActorReport, Report};

use super::*;
use crate::control::{Answer, Asked, Request, Word};

struct Site {
    server: Server,
    hub: Hub,
    asked: crossbeam::channel::Receiver<Asked>,
    runs: tempfile::TempDir,
}

fn site(change: impl FnOnce(&mut WebConfig, &Path)) -> Site {
    let runs = tempfile::tempdir().unwrap();
    for (name, record) in
        [("own", "{\"step\":1,\"learner/update_ms\":5.0,\"learner/skipped\":2.0}\n"), ("other", "{\"step\":9}\n")]
    {
        std::fs::create_dir(runs.path().join(name)).unwrap();
        std::fs::write(runs.path().join(name).join("metrics.jsonl"), record).unwrap();
    }
    std::fs::write(runs.path().join("metrics.jsonl"), "secret\n").unwrap();
    let mut config = Config::load(&[] as &[&str], &[] as &[&str]).unwrap().web;
    change(&mut config, runs.path());
    let (hub, asked) = Hub::new();
    let server = Server::open(&config, &runs.path().join("own"), hub.clone()).unwrap();
    Site { server, hub, asked, runs }
}

fn with_token(config: &mut WebConfig, dir: &Path) {
    let path = dir.join("token");
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    config.token_file = path.to_string_lossy().into_owned();
}

impl Site {
    fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.server.address().port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).unwrap();
        stream
    }

    /// Headers of who has read where the page is.
    fn known(&self) -> String {
        let url = std::fs::read_to_string(self.runs.path().join("own").join(URL_FILE)).unwrap();
        format!("host: localhost\r\nauthorization: Bearer {}", url.trim().split_once("/?token=").unwrap().1)
    }

    fn get(&self, path: &str) -> String {
        self.get_with(path, &self.known())
    }

    fn get_with(&self, path: &str, headers: &str) -> String {
        let mut text = String::new();
        let stream = &mut self.send(&format!("GET {path} HTTP/1.1\r\n{headers}"), "");
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn ask(&self, headers: &str) -> String {
        let head = format!("POST /api/ask HTTP/1.1\r\n{headers}\r\ncontent-type: application/json");
        let mut text = String::new();
        self.send(&head, "\"pause\"").read_to_string(&mut text).unwrap();
        text
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

fn report() -> Report {
    let actor = ActorReport { index: 3, pid: 7, lag_updates: 4, ack_ms: 2.0, ..Default::default() };
    Report { steps: 41, updates: 6, actors: vec![actor], ..Default::default() }
}

#[test]
fn the_page_takes_nothing_from_elsewhere() {
    let site = site(|_, _| ());
    for path in ["/", "/app.js", "/actors.js", "/chart.js", "/media.js", "/picture.js", "/runs.js", "/style.css"] {
        let answer = site.get(path);
        assert_eq!(status(&answer), "200", "{path}");
        assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(!body.contains("innerHTML") && !body.contains("https://"), "{path}");
    }
    assert_eq!(status(&site.get("/nothing")), "404");
}

#[test]
fn events_arrive_and_end_with_the_server() {
    let site = site(|_, _| ());
    let known = site.known();
    let Site { server, hub, asked: _asked, runs: _runs } = site;
    hub.tell(Word::Report(Box::new(report())));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /api/events HTTP/1.1\r\n{known}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"steps\":41")));
    hub.tell(Word::End("enough".into()));
    drop(server);
    assert!(lines.any(|line| line == "data: {\"end\":\"enough\"}"));
    assert_eq!(lines.find(|line| line.starts_with("data")), None, "the stream ends");
}

#[test]
fn a_request_is_answered_and_one_from_another_page_or_name_is_refused() {
    let site = site(|_, _| ());
    let (asked, port) = (site.asked.clone(), site.server.address().port());
    let secret = site.known().replace("host: localhost\r\n", "");
    let launcher = std::thread::spawn(move || {
        let heard: Vec<Request> = asked
            .iter()
            .take(1)
            .map(|asked| {
                asked.answer.send(Answer::Done("paused".into())).unwrap();
                asked.request
            })
            .collect();
        (heard, asked)
    });
    for headers in [
        format!("host: localhost:{port}\r\norigin: http://evil.example"),
        format!("host: localhost:{port}\r\norigin: null"),
        format!("host: localhost:{port}\r\nsec-fetch-site: cross-site"),
        format!("host: evil.example:{port}\r\norigin: http://evil.example:{port}"),
        format!("host: 10.0.0.1:{port}"),
    ] {
        assert_eq!(status(&site.ask(&format!("{headers}\r\n{secret}"))), "403", "{headers}");
    }
    let head = format!("POST /api/ask HTTP/1.1\r\n{}\r\ncontent-type: text/plain", site.known());
    let plain = site.send(&head, "\"stop\"");
    assert!(BufReader::new(plain).lines().next().unwrap().unwrap().contains(" 415 "));
    let answer = site.ask(&format!("host: localhost:{port}\r\norigin: http://localhost:{port}\r\n{secret}"));
    assert!(status(&answer) == "200" && answer.ends_with("{\"done\":\"paused\"}"), "{answer}");
    let (heard, asked) = launcher.join().unwrap();
    assert_eq!((heard, asked.len()), (vec![Request::Pause], 0), "nothing else got through");
}

#[test]
fn the_users_of_this_machine_get_numbers_and_the_owner_of_the_run_the_rest() {
    let site = site(|_, _| ());
    let file = site.runs.path().join("own").join(URL_FILE);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(status(&site.get_with("/metrics", "host: localhost")), "200");
    let wrong = format!("host: localhost\r\nauthorization: Bearer {}", "0".repeat(64));
    for headers in ["host: localhost", &wrong] {
        for path in ["/", "/app.js", "/api/events", "/api/config", "/api/runs", "/api/records", "/?token=0"] {
            assert_eq!(status(&site.get_with(path, headers)), "401", "{path}");
        }
        assert_eq!(status(&site.ask(headers)), "401");
    }
    assert_eq!(site.asked.len(), 0);
    let url = site.server.url().to_string();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), url);
    let address = format!("http://{}", site.server.address());
    assert!(site.get_with(url.strip_prefix(&address).unwrap(), "host: localhost").contains("set-cookie: lucid_"));
    drop(site.server);
    assert!(!file.exists(), "it is there while the page is");
}

#[test]
fn without_the_secret_nobody_comes_in_and_beyond_loopback_there_must_be_one() {
    let site = site(with_token);
    assert!(site.server.url().ends_with('/'), "the user's own secret is not told");
    for headers in ["host: localhost", "host: localhost\r\nauthorization: Bearer 0123456789abcdeg"] {
        assert_eq!(status(&site.get_with("/metrics", headers)), "401");
        assert_eq!(status(&site.ask(headers)), "401");
    }
    assert_eq!(status(&site.get_with("/metrics", "host: localhost\r\nauthorization: Bearer 0123456789abcdef")), "200");
    let answer = site.get_with("/?token=0123456789abcdef", "host: localhost");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(status(&answer) == "303" && cookie.ends_with("; HttpOnly; SameSite=Strict"), "{answer}");
    let cookie = cookie.split(';').next().unwrap();
    let known = format!("host: localhost\r\ncookie: {cookie}");
    assert_eq!(status(&site.get_with("/", &known)), "200");
    assert_eq!(
        status(&site.get_with("/?token=0123456789abcdef", &known)),
        "303",
        "the secret does not stay in the address"
    );
    let mut open = Config::load(&[] as &[&str], &[] as &[&str]).unwrap().web;
    open.address = "0.0.0.0".parse().unwrap();
    assert!(matches!(Server::open(&open, Path::new("."), Hub::new().0), Err(WebError::Open { .. })));
    assert!(
        Config::load(&[] as &[&str], &["web.address=0.0.0.0"]).unwrap_err().to_string().contains("`web.token_file`")
    );
}

#[test]
fn beyond_loopback_nothing_is_told_or_asked_without_the_secret_or_by_another_page() {
    let site = site(|config, dir| {
        with_token(config, dir);
        config.address = "0.0.0.0".parse().unwrap();
    });
    let port = site.server.address().port();
    let paths = ["/", "/app.js", "/metrics", "/api/events", "/api/config", "/api/runs", "/api/records", "/api/media"];
    let secret = "authorization: Bearer 0123456789abcdef";
    for host in [format!("127.0.0.1:{port}"), format!("192.0.2.7:{port}"), "localhost".into()] {
        for path in paths {
            assert_eq!(status(&site.get_with(path, &format!("host: {host}"))), "401", "{path} of {host}");
        }
        assert_eq!(status(&site.ask(&format!("host: {host}\r\norigin: http://{host}"))), "401");
        let foreign = format!("host: {host}\r\norigin: http://evil.example\r\n{secret}");
        assert_eq!(status(&site.ask(&foreign)), "403", "{host}");
        assert_eq!(status(&site.get_with("/metrics", &format!("host: {host}\r\n{secret}"))), "200");
    }
    // A name is another's, who could have pointed it here, unless the config has it.
    assert_eq!(status(&site.get_with("/metrics", &format!("host: evil.example:{port}\r\n{secret}"))), "403");
    assert_eq!(site.asked.len(), 0);
}

#[test]
fn records_come_by_offset_and_no_name_leads_out_of_the_folder() {
    let site = site(|_, _| ());
    let all = site.get("/api/records");
    let next = all.lines().find_map(|line| line.strip_prefix("lucid-next: ")).unwrap();
    assert!(all.contains("\"step\":1"), "{all}");
    let rest = site.get(&format!("/api/records?since={next}"));
    assert!(rest.ends_with("\r\n\r\n") && rest.contains(&format!("lucid-next: {next}")), "{rest}");
    assert!(site.get("/api/records?since=99999").contains("lucid-next: 0"));
    assert!(site.get("/api/runs/other/records").contains("\"step\":9"));
    for name in ["..", "%2e%2e", ".", "..%2fown", "%2fetc", "own%2f..", "nothing"] {
        let answer = site.get(&format!("/api/runs/{name}/records"));
        assert!(status(&answer) == "404" && !answer.contains("secret"), "{name}: {answer}");
    }
    assert!(site.get("/api/runs").contains("\"name\":\"other\",\"own\":false,\"step\":9.0"));
}

#[test]
fn only_pictures_of_the_run_are_listed_and_served() {
    let site = site(|_, _| ());
    assert!(site.get("/api/media").ends_with("[]"));
    let own = site.runs.path().join("own");
    std::fs::create_dir(own.join("media")).unwrap();
    let good = ["eval-0-000000000100.gif", "openloop-image-000000000200.png", "openloop-front.cam_2-1000000000000.gif"];
    let odd = [
        "eval-0-100.gif",
        "eval-0-+00000000100.gif",
        "eval-0-0000000000100.gif",
        "eval--000000000100.gif",
        "eval-a-b-000000000100.gif",
        "eval-a b-000000000100.gif",
        "replay-0-000000000100.gif",
        "eval-0-000000000100.svg",
        "eval-0-000000000100.gif.tmp",
    ];
    good.iter().chain(&odd).for_each(|name| std::fs::write(own.join("media").join(name), name).unwrap());
    std::os::unix::fs::symlink(own.join("metrics.jsonl"), own.join("media/eval-9-000000000100.gif")).unwrap();
    std::fs::create_dir(own.join("media/eval-8-000000000100.gif")).unwrap();
    let list = site.get("/api/media");
    let first = "[{\"kind\":\"eval\",\"name\":\"0\",\"step\":100,\"file\":\"eval-0-000000000100.gif\"},";
    assert!(list.contains(first) && list.matches("\"file\"").count() == 3, "{list}");
    for name in good {
        let answer = site.get(&format!("/media/{name}"));
        let kind = if name.ends_with("gif") { "content-type: image/gif" } else { "content-type: image/png" };
        assert!(status(&answer) == "200" && answer.contains(kind) && answer.ends_with(name), "{answer}");
        assert_eq!(status(&site.get_with(&format!("/media/{name}"), "host: localhost")), "401");
    }
    let links = ["eval-9-000000000100.gif", "eval-8-000000000100.gif", "..%2fmetrics.jsonl", "%2e%2e%2fmetrics.jsonl"];
    let others = ["../metrics.jsonl", "..", "%00", "eval-..%2f..%2f-000000000100.gif", "nothing"];
    for name in
        odd.iter().map(|name| name.replace(' ', "%20")).chain(links.iter().chain(&others).map(|n| n.to_string()))
    {
        assert_eq!(status(&site.get(&format!("/media/{name}"))), "404", "{name}");
    }
}

#[test]
fn numbers_for_prometheus_have_base_units_and_labels() {
    let site = site(|_, _| ());
    site.hub.tell(Word::Report(Box::new(report())));
    let answer = site.get("/metrics");
    for line in [
        "lucid_environment_steps_total 41.0",
        "lucid_updates_skipped_total 2.0",
        "lucid_update_seconds 0.005",
        "lucid_actor_lag_updates{actor=\"3\"} 4.0",
        "lucid_actor_acknowledge_seconds{actor=\"3\"} 0.002",
        "# EOF",
    ] {
        assert!(answer.lines().any(|l| l == line), "{line} in {answer}");
    }
}

#[test]
fn what_the_dashboard_and_the_alerts_name_is_served() {
    let record =
        "{\"step\":1,\"episode/return\":1,\"learner/update_ms\":5,\"learner/batch_ms\":1,\"train/loss/dyn\":1}\n";
    let site = site(|_, runs| std::fs::write(runs.join("own/metrics.jsonl"), record).unwrap());
    site.hub.tell(Word::Report(Box::new(report())));
    let answer = site.get("/metrics");
    let served: std::collections::BTreeSet<&str> = answer
        .lines()
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| name.starts_with("lucid_"))
        .collect();
    let name = regex::Regex::new("lucid_[a-z0-9_]+").unwrap();
    for text in [include_str!("../../../docs/grafana/lucid.json"), include_str!("../../../docs/grafana/alerts.yml")] {
        let named: Vec<&str> = name.find_iter(text).map(|found| found.as_str()).collect();
        assert!(!named.is_empty());
        named.iter().for_each(|name| assert!(served.contains(name), "{name} is not among {served:?}"));
    }
}
