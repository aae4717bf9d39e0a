//! A headless Chromium for tests, driven by the DevTools protocol through a pipe: it ends when the pipe closes, however the test ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, wait_for};

/// Names it goes by.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Named here it must be there; else tests do without where there is none.
const VARIABLE: &str = "LUCID_CHROMIUM";
/// The browser's end of the pipe is on descriptors 3 and 4.
const PIPED: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    folder: TempDir,
    calls: u64,
    session: Option<String>,
    complaints: Vec<String>,
}

/// A browser to test with; none, said aloud, where there is none and none is asked for.
pub fn browser() -> Option<Browser> {
    let wanted = std::env::var(VARIABLE).ok();
    let answers = |name: &str| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    match &wanted {
        Some(name) => assert!(answers(name), "{VARIABLE} names {name}, which does not run"),
        None if !NAMES.into_iter().any(answers) => {
            let test = std::thread::current().name().unwrap_or_default().to_string();
            // Past the capture of what tests print.
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: no Chromium; install it, or name it in {VARIABLE}");
            return None;
        }
        None => {}
    }
    let name = wanted.or_else(|| NAMES.into_iter().find(|name| answers(name)).map(String::from))?;
    Some(Browser::start(&name))
}

impl Browser {
    fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", PIPED, name, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--disable-breakpad", "--disable-background-networking"])
            .args(["--no-first-run", "--no-default-browser-check", "--disable-component-update", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .args(["about:blank"])
            .envs(["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| (name, folder.path())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let (to, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let messages = output.split(0).map_while(Result::ok).filter_map(|m| serde_json::from_slice(&m).ok());
            messages.map_while(|message| sender.send(message).ok()).for_each(drop);
        });
        let mut browser = Self { child, to, from, folder, calls: 0, session: None, complaints: Vec::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = session["sessionId"].as_str().map(String::from);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// What a method of the protocol gives.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.as_mut().unwrap().write_all(&bytes).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.from.recv_timeout(left).unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    /// Keep what the page complains of.
    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => &params["exceptionDetails"],
            Some("Runtime.consoleAPICalled") if ["error", "assert"].iter().any(|kind| params["type"] == *kind) => {
                params
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => &params["entry"],
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }

    /// Uncaught exceptions and errors on the console so far.
    pub fn complaints(&mut self) -> &[String] {
        // What was said before this answer has been noted with it.
        self.value("0");
        &self.complaints
    }

    /// Go to an address.
    pub fn open(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url}));
        assert!(gone["errorText"].is_null(), "{gone}");
        self.wait("document.readyState === 'complete'");
    }

    /// The value of an expression on the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Text of an element.
    pub fn text(&mut self, selector: &str) -> String {
        self.value(&format!("document.querySelector({selector:?}).textContent")).as_str().unwrap_or_default().into()
    }

    /// Poll until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        wait_for(expression, || self.value(expression) == true);
    }

    /// The middle of an element, after scrolling to it; pixels of the view.
    fn middle(&mut self, selector: &str) -> [f64; 2] {
        let point = self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}});
               const r = e.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; }})()"
        ));
        [0, 1].map(|i| point[i].as_f64().unwrap())
    }

    fn mouse(&mut self, kind: &str, [x, y]: [f64; 2], clicks: u32) {
        let button = if clicks > 0 { "left" } else { "none" };
        let held = u32::from(kind == "mousePressed" || (kind == "mouseMoved" && clicks > 0));
        let params = json!({"type": kind, "x": x, "y": y, "button": button, "buttons": held, "clickCount": clicks});
        self.call("Input.dispatchMouseEvent", params);
    }

    /// Press the left button on an element this many times, as for one click or a double click.
    pub fn click(&mut self, selector: &str, times: u32) {
        let at = self.middle(selector);
        self.mouse("mouseMoved", at, 0);
        for count in 1..=times {
            self.mouse("mousePressed", at, count);
            self.mouse("mouseReleased", at, count);
        }
    }

    /// Drag across an element to the right: half of this many pixels on each side of its middle.
    pub fn drag(&mut self, selector: &str, pixels: f64) {
        let [x, y] = self.middle(selector);
        self.mouse("mouseMoved", [x - pixels / 2.0, y], 0);
        self.mouse("mousePressed", [x - pixels / 2.0, y], 1);
        self.mouse("mouseMoved", [x, y], 1);
        self.mouse("mouseMoved", [x + pixels / 2.0, y], 1);
        self.mouse("mouseReleased", [x + pixels / 2.0, y], 1);
    }

    /// Turn the wheel over an element; negative: away from the person.
    pub fn wheel(&mut self, selector: &str, pixels: f64) {
        let [x, y] = self.middle(selector);
        let params = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": pixels});
        self.call("Input.dispatchMouseEvent", params);
    }

    /// Press keys one after another, by the names that events give them.
    pub fn press(&mut self, keys: &[&str]) {
        for key in keys {
            let (code, number, text) = match *key {
                "Enter" => ("Enter", 13, "\r"),
                "Tab" => ("Tab", 9, ""),
                "Escape" => ("Escape", 27, ""),
                "ArrowLeft" => ("ArrowLeft", 37, ""),
                "ArrowRight" => ("ArrowRight", 39, ""),
                " " => ("Space", 32, " "),
                plain => ("", plain.bytes().next().map_or(0, u32::from), plain),
            };
            let mut params = json!({"type": "keyDown", "key": key, "code": code, "windowsVirtualKeyCode": number});
            if !text.is_empty() {
                params["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", params.clone());
            params["type"] = json!("keyUp");
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Press Tab until an element has the focus.
    pub fn tab_to(&mut self, selector: &str) {
        for _ in 0..200 {
            if self.value(&format!("document.activeElement.matches({selector:?})")) == true {
                return;
            }
            self.press(&["Tab"]);
        }
        panic!("Tab does not lead to {selector}");
    }

    /// A screen of this size in pixels, bright or dark.
    pub fn screen(&mut self, [width, height]: [u32; 2], dark: bool) {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", params);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// A picture of the whole page as PNG.
    pub fn picture(&mut self, path: &Path) {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let bytes = base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// End it; nothing of it must be left.
    pub fn close(self) {
        let folder = self.folder.path().to_path_buf();
        drop(self);
        assert!(!folder.exists() && processes(&folder) == 0);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends by itself then, and is made to if it takes long.
        self.to = None;
        patiently(|| self.child.try_wait().is_ok_and(|status| status.is_some()));
        let _ = Pid::from_raw(self.child.id() as i32).map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.child.wait();
        let folder = self.folder.path();
        patiently(|| processes(folder) == 0 && fs::remove_dir_all(folder).is_ok());
    }
}

/// Poll until something is so, but not for long.
fn patiently(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// How many processes have this folder in their arguments.
fn processes(folder: &Path) -> usize {
    let needle = folder.to_string_lossy().into_owned();
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|e| {
        fs::read(e.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&needle))
    })
    .count()
}
