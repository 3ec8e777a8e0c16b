//! The picture of the live view. What matters most comes first and is drawn in any width and height: columns that do not fit are left
//! out, the least important first.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};

use super::board::Board;
use super::report::{Device, Model, Report, duration, speed_text};
use super::table;
use crate::output::mebibytes;

/// A column of the models: its title, its width, and what it shows. In the order in which they are given up, last first.
struct Column {
    title: &'static str,
    width: u16,
    show: fn(&Model) -> String,
    right: bool,
}

const COLUMNS: [Column; 9] = [
    Column { title: "STATE", width: 12, show: Model::state_text, right: false },
    Column { title: "TOK/S", width: 7, show: |model| speed_text(model.tokens_per_second), right: true },
    Column { title: "ACTIVE", width: 6, show: |model| number(model.active), right: true },
    Column { title: "QUEUED", width: 6, show: |model| number(model.queued), right: true },
    Column {
        title: "MEASURED",
        width: 8,
        show: |model| model.measured_mb.map(mebibytes).unwrap_or_default(),
        right: true,
    },
    Column { title: "KEEP", width: 6, show: Model::keep_alive_text, right: true },
    Column { title: "USED", width: 6, show: |model| model.last_used_s.map(duration).unwrap_or_default(), right: true },
    Column {
        title: "PID",
        width: 7,
        show: |model| model.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        right: true,
    },
    Column { title: "ESTIMATED", width: 9, show: |model| mebibytes(model.estimated_mb), right: true },
];

/// Least width of the models' names.
const NAME_WIDTH: u16 = 9;
/// The mark of the selected row.
const MARK: &str = "> ";
/// A screen with so many lines has room for errors too.
const TALL: u16 = 18;
const MOST_ERRORS: usize = 3;
const MOST_DEVICES: usize = 4;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, board: &Board) {
    let area = frame.area();
    let head = head(board, area.width);
    let errors = errors(board, area.height);
    let lines = |lines: &[Line<'_>]| Constraint::Length(lines.len() as u16);
    let detail = if area.height < TALL { 1 } else { 2 };
    let parts = [lines(&head), Constraint::Min(3), Constraint::Length(detail), lines(&errors), Constraint::Length(1)];
    let [above, middle, below, last, foot] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(head), above);
    models(frame, board, middle);
    let told = board.selected_model().map(Model::detail_text).unwrap_or_default();
    frame.render_widget(Paragraph::new(told).wrap(Wrap { trim: true }), below);
    frame.render_widget(Paragraph::new(errors), last);
    frame.render_widget(Paragraph::new(footer(board)), foot);
}

fn head(board: &Board, width: u16) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(trouble) = &board.trouble {
        lines.push(Line::from(format!("NO ANSWER, trying again: {trouble}")).fg(Color::Red).bold());
    }
    let Some(report) = &board.report else {
        if lines.is_empty() {
            lines.push(Line::from(format!("asking {}", board.endpoint)));
        }
        return lines;
    };
    if board.trouble.is_none() {
        lines.push(Line::from(table::server(report)).bold());
    }
    if report.health != "ok" && board.trouble.is_none() {
        let color = if report.ready { Color::Yellow } else { Color::Red };
        lines.push(Line::from(format!("{}: {}", report.health, report.message)).fg(color));
    }
    lines.push(Line::from(table::totals(report)));
    lines.extend(report.devices.iter().take(MOST_DEVICES).map(|device| memory(device, width)));
    lines
}

/// Such as `cpu   ████░░░░ 1.2 GB of 2.0 GB, 0.8 GB free, 1.1 GB measured`.
fn memory(device: &Device, width: u16) -> Line<'static> {
    let cells = if width < 60 { 8 } else { 24 };
    let part = if device.budget_mb > 0.0 { (device.held_mb / device.budget_mb).clamp(0.0, 1.0) } else { 0.0 };
    let full = (part * f64::from(cells)).round() as usize;
    let color = if part > 0.9 { Color::Yellow } else { Color::Green };
    Line::from(vec![
        Span::raw(format!("{:<6}", device.device)),
        Span::raw("█".repeat(full)).fg(color),
        Span::raw("░".repeat(usize::from(cells as u16) - full)),
        Span::raw(format!(
            " {} of {}, {} free, {} measured",
            mebibytes(device.held_mb),
            mebibytes(device.budget_mb),
            mebibytes(device.free_mb),
            mebibytes(device.measured_mb),
        )),
    ])
}

fn models(frame: &mut Frame<'_>, board: &Board, area: Rect) {
    let Some(report) = &board.report else { return };
    let columns = columns(area.width);
    let aligned = |text: String, right: bool| {
        let line = Line::from(text);
        Cell::from(if right { line.right_aligned() } else { line })
    };
    let titles = columns.iter().map(|column| aligned(column.title.to_owned(), column.right));
    let header = Row::new(std::iter::once(Cell::from("MODEL")).chain(titles)).style(Modifier::BOLD);
    let rows = report.models.iter().map(|model| {
        let cells = columns.iter().map(|column| aligned((column.show)(model), column.right));
        Row::new(std::iter::once(Cell::from(model.model_id.clone())).chain(cells)).style(style(model))
    });
    let widths = columns.iter().map(|column| Constraint::Length(column.width));
    let table = Table::new(rows, std::iter::once(Constraint::Min(NAME_WIDTH)).chain(widths))
        .header(header)
        .column_spacing(1)
        .highlight_symbol(MARK)
        .row_highlight_style(Modifier::REVERSED);
    let mut state = TableState::default().with_selected(board.position());
    frame.render_stateful_widget(table, area, &mut state);
}

/// Those that fit beside the names.
fn columns(width: u16) -> &'static [Column] {
    let mut left = width.saturating_sub(NAME_WIDTH + MARK.len() as u16);
    let fitting = COLUMNS.iter().take_while(|column| match left.checked_sub(column.width + 1) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    &COLUMNS[..fitting.count()]
}

fn style(model: &Model) -> Style {
    match model.state.as_str() {
        "loaded" if model.active > 0 => Style::new().fg(Color::Green),
        "loading" | "queued" => Style::new().fg(Color::Cyan),
        "quarantined" | "broken" => Style::new().fg(Color::Red),
        _ if model.is_resident() => Style::new(),
        _ => Style::new().fg(Color::DarkGray),
    }
}

fn errors(board: &Board, height: u16) -> Vec<Line<'static>> {
    let recent = board.report.as_ref().map_or(&[][..], |report: &Report| &report.recent_errors);
    if height < TALL || recent.is_empty() {
        return Vec::new();
    }
    let newest = recent.iter().rev().take(MOST_ERRORS);
    newest
        .map(|recent| {
            let error = &recent.error;
            let text = format!("{} ago {} {}: {}", duration(recent.ago_s), error.operation, error.code, error.message);
            Line::from(text).fg(Color::Red)
        })
        .collect()
}

fn footer(board: &Board) -> Line<'static> {
    if let Some(model) = &board.asks_to_unload {
        return Line::from(format!("unload {model}? y/n")).fg(Color::Yellow).bold();
    }
    let paused = if board.paused { "PAUSED  " } else { "" };
    if !board.notice.is_empty() {
        return Line::from(format!("{paused}{}", board.notice)).fg(Color::Cyan);
    }
    let keys = format!("q quit  l load  u unload  j/k select  s sort: {}  p pause", board.sort.name());
    Line::from(format!("{paused}{keys}")).fg(Color::DarkGray)
}

fn number(count: u32) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::{Board, Report, draw};

    fn drawn(board: &Board, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| draw(frame, board)).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content().chunks(usize::from(width.max(1)));
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    fn board() -> Board {
        let mut board = Board::new("tcp://127.0.0.1:9901".to_owned());
        board.seen(Ok(Report::example()));
        board
    }

    fn assert_shows(shown: &str, parts: &[&str]) {
        for part in parts {
            assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
        }
    }

    #[test]
    fn the_usual_terminal_shows_everything_about_a_model() {
        let shown = drawn(&board(), 80, 24);
        assert_shows(
            &shown,
            &[
                "ready, up 1:42, tcp://127.0.0.1:9901, ModelManagerSuite 1",
                "degraded: ready",
                "1 active, 2 queued, 20.0 tokens/s",
                "████████████░░░░░░░░░░░░ 1.0 GB of 2.0 GB, 512 MB free, 30 MB measured",
                "MODEL",
                "> mms-demo",
                "in use",
                "4194303",
                "loading 43 %",
                "mms-demo: 30 MB held; 27 MB measured; 28 MB estimated; 2 requests, 1 failed",
                "10 s ago generate quarantined: odd failed 3 times",
                "q quit",
            ],
        );
        assert!(
            shown.lines().any(|line| line.contains("mms-demo") && line.contains("loaded") && line.contains("20.0")),
            "{shown}"
        );
    }

    #[test]
    fn a_narrow_one_shows_what_matters_most() {
        let shown = drawn(&board(), 40, 10);
        assert_shows(
            &shown,
            &["ready, up 1:42", "1 active, 2 queued", "> mms-demo", "loaded", "loading 43 %", "20.0", "q quit"],
        );
        assert!(!shown.contains("MEASURED"), "{shown}");
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (3, 2), (10, 3), (20, 5), (300, 2), (2, 100)] {
            drawn(&board(), width, height);
            drawn(&Board::new("tcp://x:1".to_owned()), width, height);
        }
    }

    #[test]
    fn questions_pauses_and_trouble_are_seen() {
        let mut board = Board::new("tcp://x:1".to_owned());
        assert_shows(&drawn(&board, 40, 10), &["asking tcp://x:1"]);
        board.seen(Err("no server at tcp://x:1".to_owned()));
        assert_shows(&drawn(&board, 60, 10), &["NO ANSWER, trying again: no server at tcp://x:1"]);
        board.seen(Ok(Report::example()));
        board.press(KeyEvent::from(KeyCode::Char('p')));
        assert_shows(&drawn(&board, 60, 10), &["PAUSED"]);
        board.press(KeyEvent::from(KeyCode::Char('u')));
        assert_shows(&drawn(&board, 60, 10), &["unload mms-demo? y/n"]);
        board.press(KeyEvent::from(KeyCode::Char('n')));
        board.seen(Err("gone".to_owned()));
        let shown = drawn(&board, 60, 10);
        assert_shows(&shown, &["NO ANSWER, trying again: gone", "> mms-demo"]);
        assert!(!shown.contains("ready, up"), "what was is not shown as what is: {shown}");
    }

    #[test]
    fn the_selected_row_is_in_sight() {
        let mut report = Report::example();
        let one = report.models[1].clone();
        report.models = (0..100)
            .map(|number| {
                let mut model = one.clone();
                model.model_id = format!("m{number:03}");
                model
            })
            .collect();
        let mut board = Board::new(String::new());
        board.seen(Ok(report));
        board.press(KeyEvent::from(KeyCode::Char('G')));
        assert_shows(&drawn(&board, 80, 24), &["> m099"]);
        assert!(!drawn(&board, 80, 24).contains("m000 "));
    }
}
