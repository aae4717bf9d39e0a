//! The few forms of HTML that the page is made of.

/// Colours follow the reader's; pictures of curves stay on white. It prints as it looks.
const STYLE: &str = "
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top }
th { font-weight: 600; opacity: .7 } td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); gap: 1rem }
figure { margin: 0 } figure svg, figure img { width: 100%; height: auto; background: #fff; border-radius: .4rem }
figure img { image-rendering: pixelated } figcaption { opacity: .7 } pre { overflow-x: auto } summary { cursor: pointer }
@media print { details { display: none } figure, tr { break-inside: avoid } }
";

/// Text as it may stand between tags and in attributes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// A whole page. The title is text, the body HTML. It takes nothing from elsewhere and runs nothing.
pub fn document(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )
}

/// A heading, which is text, and what belongs to it, which is HTML.
pub fn section(heading: &str, body: &str) -> String {
    format!("<section><h2>{}</h2>{body}</section>", escaped(heading))
}

/// A table of cells that are HTML already; without names of columns it has no head.
pub fn table<const N: usize>(names: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let row = |cells: [String; N]| {
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr>{cells}</tr>")
    };
    let rows: String = rows.map(row).collect();
    if rows.is_empty() {
        return "<p>none</p>".into();
    }
    let names = names.iter().map(|name| format!("<th>{name}</th>")).collect::<String>();
    let head = if names.contains("<th></th>") { String::new() } else { format!("<thead><tr>{names}</tr></thead>") };
    format!("<table>{head}<tbody>{rows}</tbody></table>")
}
