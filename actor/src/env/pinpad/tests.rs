use super::*;
use crate::env::sample_action;

const LAYOUTS: [&Layout; 4] = [&THREE, &FOUR, &FIVE, &SIX];

fn act(class: usize) -> Action {
    Action::act([("action".to_string(), Array::i32(&[], &[class as i32]))].into())
}

fn started(layout: &'static Layout, seed: u64) -> PinPad {
    let mut env = PinPad::new(layout, Observe::Vector, [64, 64], seed);
    env.step(&Action::reset()).unwrap();
    env
}

/// Actions of a shortest way from where the player is onto a pad, over no other pad than that and the one it stands on.
fn way(env: &PinPad, pad: usize) -> Vec<usize> {
    let own = env.layout.pad_at(env.player);
    let mut queue = VecDeque::from([(env.player, Vec::new())]);
    let mut seen = std::collections::BTreeSet::from([env.player]);
    while let Some((at, way)) = queue.pop_front() {
        if env.layout.pad_at(at) == Some(pad) {
            return way;
        }
        for (class, [dx, dy]) in MOVES.into_iter().enumerate() {
            let next = [at[0].saturating_add_signed(dx), at[1].saturating_add_signed(dy)];
            let there = env.layout.pad_at(next);
            let free = !is_wall(next) && (there.is_none() || there == own || there == Some(pad));
            if free && seen.insert(next) {
                queue.push_back((next, way.iter().copied().chain([class]).collect()));
            }
        }
    }
    panic!("no way to pad {pad}");
}

/// Walk onto pads one after the other; a pad under the player counts once it has acted. The rewards of all steps.
fn visit(env: &mut PinPad, pads: impl IntoIterator<Item = usize>) -> Vec<f32> {
    let mut rewards = Vec::new();
    for pad in pads {
        let way = way(env, pad);
        for class in if way.is_empty() { vec![0] } else { way } {
            rewards.push(Outcome::of(&env.step(&act(class)).unwrap()).reward);
        }
    }
    rewards
}

/// Put the player where nothing is remembered yet.
fn placed(layout: &'static Layout) -> PinPad {
    let mut env = started(layout, 1);
    env.player = [8, 7];
    assert_eq!(layout.pad_at(env.player), None);
    env
}

#[test]
fn the_right_order_is_rewarded_once_and_the_player_starts_anew() {
    for layout in LAYOUTS {
        let mut env = placed(layout);
        let rewards = visit(&mut env, 0..layout.count());
        assert_eq!(rewards.iter().sum::<f32>(), 10.0, "{}", layout.task);
        assert_eq!(*rewards.last().unwrap(), 10.0, "{}", layout.task);
        let place = env.player;
        for t in 1..=PAUSE {
            let step = env.step(&act(0)).unwrap();
            assert_eq!(Outcome::of(&step).reward, 0.0);
            assert_eq!(step["pause"].to_f32()[0], if t < PAUSE { 1.0 } else { 0.0 }, "step {t} after the reward");
            assert!(t == PAUSE || env.player == place);
        }
        assert!(env.visited.len() <= 1, "only a pad it landed on is remembered: {:?}", env.visited);
        assert_ne!(env.player, place, "under this seed");
    }
}

#[test]
fn any_other_order_gives_nothing() {
    for layout in LAYOUTS {
        let n = layout.count();
        let orders = (0..n).flat_map(|first| (1..n).map(move |stride| (first, stride)));
        for order in orders.map(|(first, stride)| (0..n).map(move |i| (first + i * stride) % n)) {
            // Orders that repeat pads are wrong too; the one that is right is left out.
            if order.clone().eq(0..n) || order.clone().zip(order.clone().skip(1)).any(|(a, b)| a == b) {
                continue;
            }
            let total: f32 = visit(&mut placed(layout), order.clone()).iter().sum();
            assert_eq!(total, 0.0, "{} {:?}", layout.task, order.collect::<Vec<_>>());
        }
        let mut late = placed(layout);
        assert_eq!(visit(&mut late, [n - 1].into_iter().chain(0..n)).iter().sum::<f32>(), 10.0, "the last pads count");
    }
}

#[test]
fn scripted_players_complete_many_sequences_in_an_episode_that_is_cut() {
    for layout in LAYOUTS {
        let mut env = PinPad::new(layout, Observe::Vector, [64, 64], 5);
        for _ in 0..2 {
            env.step(&Action::reset()).unwrap();
            let mut total = 0.0;
            let mut plan = VecDeque::new();
            for t in 1..=STEPS {
                if plan.is_empty() && env.pause == 0 {
                    let last = |n: usize| env.visited.iter().copied().skip(env.visited.len() - n);
                    let done = (0..=env.visited.len()).rev().find(|&n| last(n).eq(0..n)).unwrap();
                    plan = way(&env, done).into();
                }
                let outcome = Outcome::of(&env.step(&act(plan.pop_front().unwrap_or(0))).unwrap());
                total += outcome.reward;
                assert_eq!((outcome.is_last, outcome.is_terminal), (t == STEPS, false));
            }
            assert!(total > 1000.0, "{}: {total}", layout.task);
            assert_eq!(env.step(&act(0)).unwrap_err(), EnvError::ended(layout.task));
        }
    }
}

#[test]
fn walls_stop_and_actions_move() {
    let mut env = placed(&THREE);
    for (class, expected) in [(1, [8, 8]), (2, [8, 7]), (3, [9, 7]), (4, [8, 7]), (0, [8, 7])] {
        env.step(&act(class)).unwrap();
        assert_eq!(env.player, expected, "action {class}");
    }
    for (class, corner) in [(1, [8, 12]), (3, [14, 12]), (2, [14, 1]), (4, [1, 1])] {
        (0..20).for_each(|_| drop(env.step(&act(class)).unwrap()));
        assert_eq!(env.player, corner);
    }
    assert!(env.step(&act(5)).unwrap_err().to_string().contains("classes 0 to 4"));
}

#[test]
fn numbers_say_what_the_picture_shows() {
    let mut env = PinPad::new(&SIX, Observe::Both, [64, 64], 4);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(6);
    let mut step = env.step(&Action::reset()).unwrap();
    let mut by_picture = std::collections::BTreeMap::new();
    for _ in 0..3000 {
        let numbers = ["position", "pad", "visited", "pause"].map(|key| step[key].to_f32());
        let pixel = |x: usize, y: usize| step["image"].bytes[((y * 4 + 1) * 64 + x * 4 + 1) * 3..][..3].to_vec();
        for (i, class) in numbers[2].iter().enumerate() {
            let shown = picture::PADS.iter().position(|colour| *colour == pixel(2 * i + 1, ROOM[1])[..]);
            assert_eq!(shown.map_or(0, |pad| pad + 1), *class as usize);
        }
        assert_eq!(pixel(env.player[0], env.player[1]), [16, 16, 24]);
        let known = by_picture.entry(step["image"].bytes.clone()).or_insert(numbers.clone());
        assert_eq!(*known, numbers, "states that differ look different");
        step = env.step(&Action::act(sample_action(&env.act_space(), &mut rng))).unwrap();
    }
    assert!(by_picture.len() > 100);
}
