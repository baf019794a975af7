//! Pages of one file: what a page is made of as text, and its charts as data that the page's own
//! script draws. No network, no fonts, no other file; the same inputs give the same bytes.
//!
//! The charts are drawn by uPlot (`uplot/`, MIT), which stands in every page with its licence.

mod figure;
mod number;

use serde::Serialize;

pub use figure::{Axis, Figure, Point, Scale, Series, Span, Stroke, caption};
pub use number::{duration, grouped, number};

/// The library of charts as it is vendored, with its licence.
const LIBRARY: [&str; 2] = [
    include_str!("../uplot/LICENSE"),
    include_str!("../uplot/uPlot.iife.min.js"),
];
const LIBRARY_STYLE: &str = include_str!("../uplot/uPlot.min.css");
const CHART: &str = include_str!("chart.js");
const CHART_STYLE: &str = include_str!("chart.css");

/// A whole page: its title as text, its style, its body as HTML, and elements behind the body
/// that may need what the charts left (scripts of its own, say).
pub fn document(title: &str, style: &str, body: &str, after: &str) -> String {
    let title = escape(title);
    let [licence, library] = LIBRARY;
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" \
         content=\"light dark\"><link rel=\"icon\" href=\"data:,\"><title>{title}</title>\
         <style>\n{LIBRARY_STYLE}\n{CHART_STYLE}{style}</style></head>\n<body>{body}\n\
         <script>\n/*\n{licence}\n*/\n{library}</script>\n<script>\n{CHART}</script>\n{after}\
         </body></html>\n"
    )
}

/// Text as HTML text or as the value of an attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Data as JSON that cannot end the script it stands in: without `<` there is no `</script>` and
/// no `<!--`. A number that is not finite is `null`.
pub fn embedded<T: Serialize + ?Sized>(data: &T) -> String {
    let json = serde_json::to_string(data).expect("what pages embed has only plain fields");
    json.replace('<', "\\u003c")
}

/// Figures beside each other; nothing where there are none.
pub fn figures(figures: &str) -> String {
    if figures.is_empty() {
        return String::new();
    }
    format!("<div class=\"figures\">{figures}</div>")
}

/// A table: the first row is its head, the first cell of every row names the row.
pub fn table<Row: AsRef<[String]>>(cells: &[Row]) -> String {
    let Some((first, rest)) = cells.split_first() else {
        return String::new();
    };
    let name = |cell: &String| format!("<th scope=\"col\">{}</th>", escape(cell));
    let head = first.as_ref().iter().map(name).collect::<Vec<_>>().concat();
    let body: String = rest.iter().map(|row| table_row(row.as_ref())).collect();
    format!(
        "<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\
         </div>"
    )
}

fn table_row(row: &[String]) -> String {
    let cells = row.iter().enumerate().map(|(column, cell)| {
        let text = escape(cell);
        if column == 0 {
            format!("<th scope=\"row\">{text}</th>")
        } else {
            format!("<td>{text}</td>")
        }
    });
    format!("<tr>{}</tr>", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const HOSTILE: &str = "</script><!-- <script>alert(\"1\")</script> & 'x'";

    #[test]
    fn text_cannot_become_markup() {
        let escaped = escape(HOSTILE);
        assert!(!escaped.contains(['<', '>', '"']), "{escaped}");
        assert!(escaped.contains("&amp; 'x'"));
        let table = table(&[vec![HOSTILE.to_owned()], vec![HOSTILE.to_owned()]]);
        assert!(!table.contains("<script") && !table.contains("<!--"));
    }

    #[test]
    fn data_cannot_end_its_script_and_comes_back() {
        let json = embedded(HOSTILE);
        assert!(!json.contains('<'), "{json}");
        let back: String = serde_json::from_str(&json).unwrap();
        assert_eq!(back, HOSTILE);
    }

    #[test]
    fn a_table_names_its_rows_and_columns() {
        let text = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = table(&[text(["arm", "pass@1"]), text(["ra3", "75.2"])]);
        assert!(table.contains("<th scope=\"col\">pass@1</th>"));
        assert!(table.contains("<tr><th scope=\"row\">ra3</th><td>75.2</td></tr>"));
        assert!(super::table::<Vec<String>>(&[]).is_empty());
    }

    /// The library is what its note says, to the byte.
    #[test]
    fn the_library_has_the_checksums_of_its_note() {
        let note = include_str!("../uplot/README.md");
        for text in [LIBRARY[0], LIBRARY[1], LIBRARY_STYLE] {
            let digest = Sha256::digest(text.as_bytes());
            let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(note.contains(&hex.concat()), "{}", &text[..40]);
        }
    }

    #[test]
    fn a_page_carries_its_scripts_and_asks_nobody() {
        let page = document("a < b", "", "<main></main>", "");
        assert!(page.contains("<title>a &lt; b</title>"));
        assert!(page.contains("Permission is hereby granted"));
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script>").count(), 2);
        // The library's first line says where it is from.
        let own = page.replace("/*! https://github.com/leeoniya/uPlot (v1.6.32) */", "");
        for reference in ["http://", "https://", "src=", "@import", "url(", "<!--"] {
            assert!(!own.contains(reference), "{reference} in the page");
        }
    }
}
