//! Catch: a ball falls down a board of 10 rows and 5 columns; a paddle on the bottom row must be under it.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::env::{Space, Spaces};

use super::draw::Canvas;
use super::{Action, Env, EnvError, Observe, Outcome, Step, action};

const TASK: &str = "catch";
const ROWS: usize = 10;
const COLUMNS: usize = 5;
const BACKGROUND: [u8; 3] = [18, 20, 32];
const BALL: [u8; 3] = [255, 214, 40];
const PADDLE: [u8; 3] = [70, 150, 255];

/// The ball starts at a random column of the top row and falls one row a step; the paddle starts in the middle.
/// Actions (`action`): 0 left, 1 stay, 2 right. After 9 actions the ball reaches the bottom row and the episode ends
/// (terminal) with reward +1 if the paddle is there, else -1.
///
/// Observations: `image` (u8 [height, width, 3]) and `vector` (f32 [50], the board row by row, 1 where ball or paddle is).
pub struct Catch {
    observe: Observe,
    size: [usize; 2],
    rng: Xoshiro256PlusPlus,
    ball: [usize; 2],
    paddle: usize,
    running: bool,
}

impl Catch {
    /// A board drawn at `size` (height, width).
    pub fn new(observe: Observe, size: [usize; 2], seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { observe, size, rng, ball: [0, 0], paddle: COLUMNS / 2, running: false }
    }

    fn start(&mut self) -> Outcome {
        self.ball = [0, self.rng.random_range(0..COLUMNS)];
        self.paddle = COLUMNS / 2;
        self.running = true;
        Outcome::first()
    }

    fn advance(&mut self, class: usize) -> Outcome {
        self.paddle = (self.paddle + class).saturating_sub(1).min(COLUMNS - 1);
        self.ball[0] += 1;
        if self.ball[0] + 1 < ROWS {
            return Outcome::default();
        }
        self.running = false;
        let reward = if self.paddle == self.ball[1] { 1.0 } else { -1.0 };
        Outcome { is_last: true, is_terminal: true, reward, ..Outcome::default() }
    }

    fn board(&self) -> Array {
        let mut board = [0.0; ROWS * COLUMNS];
        board[self.ball[0] * COLUMNS + self.ball[1]] = 1.0;
        board[(ROWS - 1) * COLUMNS + self.paddle] = 1.0;
        Array::f32(&[ROWS * COLUMNS], &board)
    }

    fn image(&self) -> Array {
        let [height, width] = self.size;
        let (h, w) = (height as f32 / ROWS as f32, width as f32 / COLUMNS as f32);
        let cell = |row: usize, column: usize| {
            let (top, left) = (row as f32 * h, column as f32 * w);
            [left, top, left + w, top + h]
        };
        let mut canvas = Canvas::new(height, width, BACKGROUND);
        canvas.rectangle(PADDLE, cell(ROWS - 1, self.paddle));
        canvas.ellipse(BALL, cell(self.ball[0], self.ball[1]));
        canvas.finish()
    }
}

impl Env for Catch {
    fn obs_space(&self) -> Spaces {
        self.observe.spaces(self.size, [("vector", Space::bounded(&[ROWS * COLUMNS], 0.0, 1.0))])
    }

    fn act_space(&self) -> Spaces {
        [("action".into(), Space::discrete(&[], 3))].into_iter().collect()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let outcome = if action.reset {
            self.start()
        } else if self.running {
            self.advance(action::class(TASK, "action", &Space::discrete(&[], 3), action)?)
        } else {
            return Err(EnvError::ended(TASK));
        };
        Ok(self.observe.step(outcome, || self.image(), || [("vector", self.board())]))
    }

    fn picture(&self) -> Option<Array> {
        Some(self.image())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(class: i32) -> Action {
        Action::act([("action".to_string(), Array::i32(&[], &[class]))].into())
    }

    /// Play an episode; `policy` sees the ball's column and the paddle's.
    fn play(env: &mut Catch, mut policy: impl FnMut(usize, usize) -> i32) -> (f32, usize) {
        let first = Outcome::of(&env.step(&Action::reset()).unwrap());
        assert_eq!(first, Outcome::first());
        let mut actions = 0;
        loop {
            let step = env.step(&act(policy(env.ball[1], env.paddle))).unwrap();
            actions += 1;
            let outcome = Outcome::of(&step);
            if outcome.is_last {
                assert!(outcome.is_terminal);
                return (outcome.reward, actions);
            }
            assert_eq!(outcome, Outcome::default());
        }
    }

    #[test]
    fn following_the_ball_always_catches_it() {
        let mut env = Catch::new(Observe::Vector, [70, 70], 1);
        let mut columns = [false; COLUMNS];
        for _ in 0..100 {
            let result = play(&mut env, |ball, paddle| 1 + (ball as i32 - paddle as i32).signum());
            assert_eq!(result, (1.0, 9));
            columns[env.ball[1]] = true;
        }
        assert_eq!(columns, [true; COLUMNS]);
    }

    #[test]
    fn random_actions_catch_one_ball_in_five() {
        let mut env = Catch::new(Observe::Vector, [70, 70], 2);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let n = 20_000;
        let mean = (0..n).map(|_| play(&mut env, |_, _| rng.random_range(0..3)).0).sum::<f32>() / n as f32;
        // The ball's column is uniform and independent of the paddle: expectation 2/5 - 1, deviation 0.8 / sqrt(n).
        assert!((mean + 0.6).abs() < 5.0 * 0.8 / (n as f32).sqrt(), "{mean}");
    }

    #[test]
    fn the_board_and_the_picture_show_ball_and_paddle() {
        let mut env = Catch::new(Observe::Both, [70, 70], 4);
        let mut seen = std::collections::BTreeSet::new();
        let mut step = env.step(&Action::reset()).unwrap();
        for _ in 0..8 {
            let board = step["vector"].to_f32();
            assert_eq!(board.iter().sum::<f32>(), 2.0);
            assert_eq!((board[env.ball[0] * COLUMNS + env.ball[1]], board[45 + env.paddle]), (1.0, 1.0));
            let pixel = |row: usize, column: usize| {
                let at = ((row * 7 + 3) * 70 + column * 14 + 7) * 3;
                step["image"].bytes[at..at + 3].to_vec()
            };
            assert_eq!(pixel(env.ball[0], env.ball[1]), BALL);
            assert_eq!(pixel(9, env.paddle), PADDLE);
            assert_eq!(pixel(env.ball[0], (env.ball[1] + 1) % COLUMNS), BACKGROUND);
            seen.insert(step["image"].bytes.clone());
            step = env.step(&act(0)).unwrap();
        }
        assert_eq!(seen.len(), 8, "every state looks different");
    }

    #[test]
    fn stepping_outside_an_episode_is_an_error() {
        let mut env = Catch::new(Observe::Vector, [70, 70], 5);
        assert_eq!(env.step(&act(1)).unwrap_err(), EnvError::ended(TASK));
        play(&mut env, |_, _| 1);
        assert_eq!(env.step(&act(1)).unwrap_err(), EnvError::ended(TASK));
        assert!(env.step(&Action::reset()).is_ok());
        assert!(env.step(&act(3)).unwrap_err().to_string().contains("classes 0 to 2"));
    }
}
