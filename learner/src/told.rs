//! The error that ends a program, as it is told.

use std::error::Error;
use std::fmt::{self, Display, Formatter};

use miette::{Diagnostic, MietteHandlerOpts, Report};
use textwrap::{WordSeparator, WordSplitter};

use crate::RunError;

/// What went wrong, its causes, and what helps. Lines break at spaces only, so that names and paths can be copied.
pub fn told(error: RunError) -> String {
    // It is set once in a process; whoever has set another one keeps it.
    let _ = miette::set_hook(Box::new(|_| {
        let options = MietteHandlerOpts::new().break_words(false).word_splitter(WordSplitter::NoHyphenation);
        Box::new(options.word_separator(WordSeparator::AsciiSpace).build())
    }));
    format!("{:?}", Report::new(Told(error)))
}

/// An error without those causes that its message tells already.
#[derive(Debug)]
struct Told(RunError);

impl Display for Told {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let message = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(told) = cause.filter(|cause| message.contains(&cause.to_string())) {
            cause = told.source();
        }
        cause
    }
}

impl Diagnostic for Told {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.0.help()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error as IoError, ErrorKind};

    use super::*;

    #[test]
    fn a_cause_is_told_once_and_names_stay_whole() {
        let source = || IoError::new(ErrorKind::NotFound, "there is none");
        let path = format!("/{}/dinov2-with-registers", "a-long-folder".repeat(9));
        let known = told(RunError::Io { doing: "read", path: path.clone().into(), source: source() });
        assert!(known.contains(&path) && known.matches("there is none").count() == 1, "{known}");
        let source = image::ImageError::IoError(source());
        let new = told(RunError::Image { doing: "read", path: path.into(), source });
        assert!(new.matches("there is none").count() == 1 && new.contains("PNG"), "{new}");
    }
}
