//! The page about a run in a real browser. Pictures of it are kept below the target folder.

use std::fs;
use std::path::{Path, PathBuf};

use learner::evaluation::{FILE, Record};
use learner::web::URL_FILE;
use rustix::process::Signal;
use shared::config::Config;
use shared::metrics::Phase;

use crate::chromium::{Browser, browser};
use crate::support::{Run, is_alive, kill, wait_for};

const SMALL: [&str; 6] = ["-c", "dummy", "--set", "run.train_ratio=1", "--set", "env.observe=vector"];
const DESK: [u32; 2] = [1280, 900];
const PHONE: [u32; 2] = [390, 844];
/// Environment steps as the page says them.
const STEPS: &str = "Number(document.querySelector('#tiles dd').textContent.split(' ')[0].replaceAll(',', ''))";

/// Start a run and open its page at the address that it tells its owner.
fn watched(browser: &mut Browser, dir: &Path, more: &[&str]) -> Run {
    let run = Run::start(dir, &[&SMALL[..], more].concat());
    wait_for("the address of the page", || address(&run).is_some());
    browser.screen(DESK, false);
    browser.open(&address(&run).unwrap());
    run
}

/// Where the page about a run is, once that is known.
pub fn address(run: &Run) -> Option<String> {
    let text = fs::read_to_string(run.dir.join(URL_FILE)).ok()?;
    text.ends_with('\n').then(|| text.trim().to_string())
}

fn phase(run: &Run) -> Phase {
    run.reports().next().unwrap().phase
}

/// Where pictures are kept.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(format!("{name}.png"))
}

/// Pictures on all screens, none of which it is wider than.
pub fn fits(browser: &mut Browser, name: &str) {
    for (screen, size) in [("desk", DESK), ("phone", PHONE)] {
        for (scheme, dark) in [("light", false), ("dark", true)] {
            browser.screen(size, dark);
            // A moment for what is drawn again when sizes change.
            browser.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))");
            browser.picture(&picture(&format!("{name}-{screen}-{scheme}")));
            let width = browser.value("document.documentElement.scrollWidth");
            assert!(width.as_u64().unwrap() <= u64::from(size[0]), "{name} on {screen}: {width} pixels wide");
        }
    }
    browser.screen(DESK, false);
}

#[test]
fn a_run_is_followed_and_steered_from_its_page() {
    let Some(mut page) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut run = watched(&mut page, &dir.path().join("seen"), &["--actors", "2"]);
    page.wait("document.title === 'seen – Lucid' && document.getElementById('run').textContent === 'seen'");
    assert_eq!(page.value("location.search + document.cookie"), "", "the secret is out of sight");

    // It goes on by itself.
    page.wait("document.getElementById('phase').textContent === 'Training'");
    page.value("window.sameLoad = true");
    let before = page.value(STEPS).as_u64().unwrap();
    page.wait(&format!("{STEPS} > {before} + 100 && window.sameLoad"));

    // With the mouse and keys.
    page.click("#count", 3);
    page.press(&["3", "Enter"]);
    page.wait("document.getElementById('answer').textContent === '3 actors'");
    assert_eq!(run.actors().len(), 3);
    let kept = Config::load(&[run.dir.join("config.toml").to_str().unwrap()], &[] as &[&str]).unwrap();
    assert_eq!(kept.actor.count, 3);
    page.wait("document.querySelectorAll('#actors tr').length === 3");
    assert_eq!(
        page.value("document.querySelector('#charts figure:nth-child(2)').hidden"),
        true,
        "it does not evaluate"
    );
    assert!(!page.text("#picture").contains("evaluation"));
    page.click("[data-ask=pause]", 1);
    page.wait("document.getElementById('phase').textContent === 'Paused'");
    assert_eq!(phase(&run), Phase::Paused);

    // With keys alone.
    page.tab_to("[data-ask=resume]");
    page.press(&[" "]);
    page.wait("document.getElementById('phase').textContent === 'Training'");
    assert_eq!(phase(&run), Phase::Training);
    fits(&mut page, "small-run");
    page.tab_to("[data-ask=stop]");
    page.press(&["Enter"]);
    page.wait("document.getElementById('confirm').open");
    page.press(&["Escape"]);
    page.wait("!document.getElementById('confirm').open");
    assert_eq!(phase(&run), Phase::Training);
    assert_eq!(page.complaints(), [] as [String; 0]);
    page.press(&["Enter"]);
    page.wait("document.getElementById('confirm').open");
    page.tab_to("#confirm [value=yes]");
    page.press(&["Enter"]);
    page.wait("document.getElementById('phase').textContent === 'ended'");
    assert!(page.text("#connection").contains("ended in order"));
    run.end_well();
    page.close();
}

/// Steps that a chart shows, from and to.
fn steps(page: &mut Browser, chart: &str) -> [f64; 2] {
    let shown = page.value(&format!("document.querySelector({chart:?}).dataset.steps.split(' ').map(Number)"));
    [0, 1].map(|i| shown[i].as_f64().unwrap())
}

#[test]
fn charts_zoom_and_choose_their_scale() {
    let Some(mut page) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut run = watched(&mut page, &dir.path().join("zoomed"), &["--actors", "1"]);
    let chart = "#charts figure:nth-child(3) canvas";
    page.wait(&format!(
        "(([a, b]) => b - a > 1000)(document.querySelector({chart:?}).dataset.steps.split(' ').map(Number))"
    ));
    page.click("[data-ask=pause]", 1);
    page.wait("document.getElementById('answer').textContent.startsWith('paused')");
    // What was under way arrives after the word.
    page.wait("/waits for resume.* 0[.]0 /.test([...document.querySelectorAll('#actors td')].map((d) => d.textContent).join(' '))");
    page.wait(&format!("document.querySelector({chart:?}).dataset.steps.endsWith(` ${{{STEPS}}}`)"));

    let all = steps(&mut page, chart);
    let width = |[from, to]: [f64; 2]| to - from;
    let is_part = |part: [f64; 2]| part[0] >= all[0] && part[1] <= all[1] && width(part) < 0.9 * width(all);
    page.drag(chart, 200.0);
    assert!(is_part(steps(&mut page, chart)));
    page.click(chart, 2);
    assert_eq!(steps(&mut page, chart), all);
    page.wheel(chart, -300.0);
    page.wait(&format!("document.querySelector({chart:?}).dataset.steps !== '{} {}'", all[0], all[1]));
    assert!(is_part(steps(&mut page, chart)));
    page.press(&["0"]);
    assert_eq!(steps(&mut page, chart), all);
    page.press(&["+"]);
    let middle = steps(&mut page, chart);
    assert!(is_part(middle) && middle[0] > all[0] && middle[1] < all[1]);
    page.press(&["ArrowRight"]);
    let right = steps(&mut page, chart);
    assert!(right[0] > middle[0] && right[1] > middle[1] && is_part(right));
    page.press(&["ArrowLeft"]);
    assert!((steps(&mut page, chart)[0] - middle[0]).abs() < 1e-6 * width(all));
    page.press(&["-"]);
    assert_eq!(steps(&mut page, chart), all);

    // Free nats keep these two losses positive, whatever the others do.
    let scale = format!("document.querySelector({chart:?}).dataset.scale");
    let names = page.value(
        "[...document.querySelectorAll('#charts figure:nth-child(3) figcaption button')].map((b) => b.dataset.name)",
    );
    let names: Vec<String> = serde_json::from_value(names).unwrap();
    assert!(names.iter().any(|name| name == "dyn") && names.len() > 5, "{names:?}");
    for name in names.iter().filter(|name| !["dyn", "rep"].contains(&name.as_str())) {
        page.click(&format!("#charts figure:nth-child(3) [data-name='{name}']"), 1);
    }
    assert_eq!(page.value(&scale), "log");
    for expected in ["linear", "log"] {
        page.click("#charts figure:nth-child(3) input", 1);
        assert_eq!(page.value(&scale), expected);
    }
    assert_eq!(page.complaints(), [] as [String; 0]);
    run.signal(Signal::TERM);
    run.end_well();
    page.close();
}

#[test]
fn a_run_that_evaluates_shows_who_plays_and_what_came_of_it() {
    let Some(mut page) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sets = ["eval.every=200", "eval.episodes=3", "eval.envs=2"].iter().flat_map(|set| ["--set", set]);
    let options: Vec<&str> = ["--actors", "1"].into_iter().chain(sets).collect();
    let mut run = watched(&mut page, &dir.path().join("evaluated"), &options);
    page.wait(
        "/evaluation: (\\d of 3 episodes|waits for the next)/.test(document.getElementById('picture').textContent)",
    );
    assert_eq!(page.value("document.querySelectorAll('#picture rect.apart').length"), 1);
    page.wait("document.getElementById('phase').textContent === 'Training'");
    assert_eq!(page.value("document.querySelectorAll('#actors tr').length"), 1, "it is none of the actors");
    let chart = "#charts figure:nth-child(2)";
    page.wait(&format!("document.querySelector('{chart} figcaption').textContent.startsWith('mean ')"));
    // From the first of several evaluations to the last.
    page.wait(&format!("(([a, b]) => b - a > 100)(document.querySelector('{chart} canvas').dataset.steps.split(' '))"));
    assert_eq!(page.value(&format!("document.querySelector('{chart}').hidden")), false);
    fits(&mut page, "evaluated");
    let [first, last] = steps(&mut page, &format!("{chart} canvas"));
    assert_eq!(page.complaints(), [] as [String; 0]);
    run.signal(Signal::TERM);
    run.end_well();
    let text = fs::read_to_string(run.dir.join(FILE)).unwrap();
    let began: Vec<f64> = text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().step as f64).collect();
    assert!(
        began.first().is_some_and(|step| *step <= first && first < last) && began.last() >= Some(&last),
        "{began:?}"
    );
    page.close();
}

#[test]
fn pictures_appear_as_they_are_made_and_runs_are_compared() {
    let Some(mut page) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("older")).unwrap();
    let records = "{\"step\":10,\"episode/return\":1.5}\n{\"step\":20,\"episode/return\":2.5}\n";
    fs::write(dir.path().join("older/metrics.jsonl"), records).unwrap();
    let mut run = watched(&mut page, &dir.path().join("pictured"), &["--actors", "1"]);
    assert_eq!(page.value("document.getElementById('media').hidden"), true);
    let media = run.dir.join("media");
    fs::create_dir_all(&media).unwrap();
    let make = |name: &str| {
        let picture = image::RgbImage::from_fn(48, 16, |x, y| image::Rgb([5 * x as u8, 15 * y as u8, 90]));
        picture.save(media.join("new.png")).unwrap();
        fs::rename(media.join("new.png"), media.join(format!("{name}.png"))).unwrap();
    };
    ["openloop-image-000000000100", "eval-0-000000000100", "eval-0-000000000200"].into_iter().for_each(make);
    page.wait("document.querySelectorAll('#films figure').length === 2");
    page.wait("[...document.querySelectorAll('#films img')].every((image) => image.naturalWidth === 48)");
    let caption = "document.querySelector('#films figcaption').textContent";
    assert_eq!(page.value(caption), "step 200, the newest of 2");
    make("eval-0-000000000300");
    page.wait(&format!("{caption} === 'step 300, the newest of 3'"));
    page.tab_to("#films input");
    page.press(&["ArrowLeft"]);
    assert_eq!(page.value(caption), "step 200, 2 of 3");
    make("eval-0-000000001400");
    page.wait(&format!("{caption} === 'step 200, 2 of 4'"));
    assert!(page.value("document.querySelector('#films img').src").as_str().unwrap().ends_with("000000000200.png"));

    page.click("#look", 1);
    page.wait("document.querySelectorAll('#runs li').length === 2");
    assert_eq!(page.value("document.getElementById('compared').hidden"), true);
    for item in ["li:nth-child(1)", "li:nth-child(2)"] {
        page.click(&format!("#runs {item} input"), 1);
    }
    page.wait("document.querySelectorAll('#compared figcaption button').length === 2");
    page.wait("document.querySelector('#compared figcaption').textContent.includes('older 2.5')");
    assert_eq!(page.value("document.querySelectorAll('#runs :checked').length"), 2);
    fits(&mut page, "pictures");
    assert_eq!(page.complaints(), [] as [String; 0]);
    run.signal(Signal::TERM);
    run.end_well();
    page.close();
}

#[test]
fn sixty_four_actors_are_readable_and_the_silent_one_stands_out() {
    let Some(mut page) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut run = watched(&mut page, &dir.path().join("many"), &["--actors", "64", "--set", "env.size=[16, 16]"]);
    page.wait("document.querySelectorAll('#actors tr').length === 64");
    page.wait("document.getElementById('phase').textContent === 'Training'");
    let silent = run.actor(40).unwrap();
    kill(silent, Signal::STOP);
    page.wait("document.querySelector('#actors tr').textContent.startsWith('40not heard of for')");
    page.wait("document.getElementById('picture').textContent.includes('actor 40: not heard of for')");
    fits(&mut page, "64-actors");
    // The page moves while it is aimed at, so that a click may miss.
    wait_for("the box to be ticked", || {
        page.click("#lagging", 1);
        page.value("document.getElementById('lagging').checked") == true
    });
    page.wait("document.querySelectorAll('#actors tr').length < 64");
    assert!(page.text("#actors").contains("not heard of for"));
    kill(silent, Signal::CONT);
    page.wait("!document.getElementById('actors').textContent.includes('not heard of')");
    assert_eq!(page.complaints(), [] as [String; 0]);
    run.signal(Signal::TERM);
    run.end_well();
    assert!(!is_alive(silent));
    page.close();
}
