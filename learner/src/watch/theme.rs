//! How text is set off. Colours say nothing that words or marks do not say too.

use ratatui::style::{Color, Modifier, Style};

/// With colours or without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    /// Whether there are colours.
    pub colours: bool,
}

impl Theme {
    /// Of headings.
    pub fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of what is beside the point.
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Of what is wrong.
    pub fn warning(self) -> Style {
        self.coloured(Color::Yellow)
    }

    /// Of the actor that lags most.
    pub fn marked(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// Of curves.
    pub fn curve(self) -> Style {
        self.coloured(Color::Cyan)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}
