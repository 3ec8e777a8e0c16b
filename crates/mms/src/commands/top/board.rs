//! What the live view shows and what a key does to it. Plain code; the terminal is in [`super::live`], the picture in [`super::draw`].

use std::cmp::Ordering;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::report::{Model, Report};

/// Rows that a page key moves.
const PAGE: isize = 10;

/// The state of the live view.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) endpoint: String,
    /// The last look that worked, its models in the order of `sort`.
    pub(super) report: Option<Report>,
    /// Why the last look did not.
    pub(super) trouble: Option<String>,
    /// The id of the row that keys are about.
    pub(super) selected: Option<String>,
    pub(super) sort: Sort,
    pub(super) paused: bool,
    /// A model that is unloaded when the question is answered with yes.
    pub(super) asks_to_unload: Option<String>,
    /// What came of the last load or unload, until the next key.
    pub(super) notice: String,
}

/// The order of models; ties are in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// Busy before resident before others.
    #[default]
    State,
    Name,
    Memory,
    Speed,
    Used,
}

/// What has to be done for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Load(String),
    Unload(String),
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Name => "name",
            Self::Memory => "memory",
            Self::Speed => "tokens/s",
            Self::Used => "used",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::State => Self::Name,
            Self::Name => Self::Memory,
            Self::Memory => Self::Speed,
            Self::Speed => Self::Used,
            Self::Used => Self::State,
        }
    }

    fn compare(self, a: &Model, b: &Model) -> Ordering {
        let down = |a: f64, b: f64| b.total_cmp(&a);
        let first = match self {
            Self::Name => Ordering::Equal,
            Self::State => rank(a).cmp(&rank(b)),
            Self::Memory => down(a.held_mb, b.held_mb),
            Self::Speed => down(a.tokens_per_second.unwrap_or_default(), b.tokens_per_second.unwrap_or_default()),
            Self::Used => a.last_used_s.unwrap_or(f64::INFINITY).total_cmp(&b.last_used_s.unwrap_or(f64::INFINITY)),
        };
        first.then_with(|| a.model_id.cmp(&b.model_id))
    }
}

fn rank(model: &Model) -> u8 {
    match model.state.as_str() {
        "loaded" if model.active > 0 => 0,
        "loading" | "queued" => 1,
        "loaded" | "draining" => 2,
        "quarantined" => 3,
        "broken" => 5,
        _ => 4,
    }
}

impl Board {
    pub(super) fn new(endpoint: String) -> Self {
        Self { endpoint, ..Self::default() }
    }

    /// A look, or why there is none. While paused the picture stands still.
    pub(super) fn seen(&mut self, seen: Result<Report, String>) {
        match seen {
            Ok(_) if self.paused => self.trouble = None,
            Ok(report) => {
                self.trouble = None;
                self.report = Some(report);
                self.arrange();
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    /// The place of the selected row.
    pub(super) fn position(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        self.models().iter().position(|model| model.model_id == selected)
    }

    pub(super) fn selected_model(&self) -> Option<&Model> {
        self.models().get(self.position()?)
    }

    fn models(&self) -> &[Model] {
        self.report.as_ref().map_or(&[], |report| &report.models)
    }

    fn arrange(&mut self) {
        if let Some(report) = &mut self.report {
            report.models.sort_by(|a, b| self.sort.compare(a, b));
        }
        if self.position().is_none() {
            self.selected = self.models().first().map(|model| model.model_id.clone());
        }
    }

    fn select(&mut self, by: isize) {
        let Some(last) = self.models().len().checked_sub(1) else { return };
        let place = self.position().unwrap_or(0).saturating_add_signed(by).min(last);
        self.selected = self.models().get(place).map(|model| model.model_id.clone());
    }

    /// What this key asks for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Action> {
        self.notice.clear();
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Some(Action::Quit);
        }
        if let Some(model) = self.asks_to_unload.take() {
            return matches!(key.code, KeyCode::Char('y' | 'Y')).then(|| self.act(Action::Unload(model)));
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Action::Quit),
            KeyCode::Char('j') | KeyCode::Down => self.select(1),
            KeyCode::Char('k') | KeyCode::Up => self.select(-1),
            KeyCode::PageDown => self.select(PAGE),
            KeyCode::PageUp => self.select(-PAGE),
            KeyCode::Char('g') | KeyCode::Home => self.select(isize::MIN),
            KeyCode::Char('G') | KeyCode::End => self.select(isize::MAX),
            KeyCode::Char('p') | KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
            }
            KeyCode::Char('u') => self.asks_to_unload = self.selected.clone(),
            KeyCode::Char('l') => {
                let model = self.selected.clone()?;
                return Some(self.act(Action::Load(model)));
            }
            _ => {}
        }
        None
    }

    fn act(&mut self, action: Action) -> Action {
        self.notice = match &action {
            Action::Quit => String::new(),
            Action::Load(model) => format!("loading {model}"),
            Action::Unload(model) => format!("unloading {model}"),
        };
        action
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{Action, Board, Report, Sort};

    fn board() -> Board {
        let mut board = Board::new("tcp://127.0.0.1:9901".to_owned());
        board.seen(Ok(Report::example()));
        board
    }

    fn press(board: &mut Board, keys: &str) -> Option<Action> {
        keys.chars().filter_map(|key| board.press(KeyEvent::from(KeyCode::Char(key)))).last()
    }

    fn order(board: &Board) -> Vec<&str> {
        board.models().iter().map(|model| model.model_id.as_str()).collect()
    }

    #[test]
    fn models_are_sorted_and_the_selection_stays_with_its_model() {
        let mut board = board();
        assert_eq!(order(&board), ["mms-demo", "bigger", "odd"], "busy, loading, quarantined");
        assert_eq!(board.selected.as_deref(), Some("mms-demo"));
        press(&mut board, "j");
        press(&mut board, "s");
        assert_eq!(board.sort, Sort::Name);
        assert_eq!(order(&board), ["bigger", "mms-demo", "odd"]);
        assert_eq!((board.selected.as_deref(), board.position()), (Some("bigger"), Some(0)));
        press(&mut board, "kkkjjjjjj");
        assert_eq!(board.selected.as_deref(), Some("odd"), "neither end is passed");
        press(&mut board, "g");
        assert_eq!(board.selected.as_deref(), Some("bigger"));
        press(&mut board, "G");
        assert_eq!(board.selected.as_deref(), Some("odd"));
        let mut report = Report::example();
        report.models.retain(|model| model.model_id != "odd");
        board.seen(Ok(report));
        assert_eq!(board.selected.as_deref(), Some("bigger"), "a model that is gone is not selected");
    }

    #[test]
    fn an_unload_is_asked_about() {
        let mut board = board();
        assert_eq!(press(&mut board, "l"), Some(Action::Load("mms-demo".to_owned())));
        assert_eq!(board.notice, "loading mms-demo");
        assert_eq!(press(&mut board, "u"), None);
        assert_eq!((press(&mut board, "n"), board.notice.as_str()), (None, ""));
        assert_eq!(press(&mut board, "y"), None, "the question was answered");
        assert_eq!(press(&mut board, "uy"), Some(Action::Unload("mms-demo".to_owned())));
        press(&mut board, "u");
        assert_eq!(board.press(KeyEvent::from(KeyCode::Esc)), None, "it leaves the question, not the program");
        assert_eq!(board.press(KeyEvent::from(KeyCode::Esc)), Some(Action::Quit));
        assert_eq!(press(&mut board, "q"), Some(Action::Quit));
        press(&mut board, "u");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(board.press(interrupt), Some(Action::Quit));
    }

    #[test]
    fn a_pause_holds_the_picture_and_trouble_is_told_all_the_same() {
        let mut board = board();
        press(&mut board, "p");
        let mut later = Report::example();
        later.uptime_s = 5000.0;
        board.seen(Ok(later.clone()));
        assert_ne!(board.report.as_ref().map(|report| report.uptime_s), Some(5000.0));
        board.seen(Err("no server".to_owned()));
        assert_eq!(board.trouble.as_deref(), Some("no server"));
        press(&mut board, "p");
        board.seen(Ok(later));
        assert_eq!(board.report.as_ref().map(|report| report.uptime_s), Some(5000.0));
        assert_eq!(board.trouble, None);
    }

    #[test]
    fn keys_before_the_first_look_do_nothing() {
        let mut board = Board::new(String::new());
        assert_eq!(press(&mut board, "jkgGlusp"), None);
        assert_eq!(board.asks_to_unload, None);
    }
}
