//! HTML as text: escaping, tables, data inside a script. No layout and no figures.

use serde::Serialize;

/// Text as HTML text or as the value of an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Data as JSON that cannot end the script it stands in: without `<` there is no `</script>` and
/// no `<!--`.
pub(super) fn embedded<T: Serialize + ?Sized>(data: &T) -> String {
    let json = serde_json::to_string(data).expect("samples have only plain fields");
    json.replace('<', "\\u003c")
}

/// Figures beside each other; nothing where there are none.
pub(super) fn figures(figures: &str) -> String {
    if figures.is_empty() {
        return String::new();
    }
    format!("<div class=\"figures\">{figures}</div>")
}

/// A table: the first row is its head, the first cell of every row names the row.
pub(super) fn table(cells: &[Vec<String>]) -> String {
    let (Some(first), rest) = (cells.first(), cells.get(1..).unwrap_or_default()) else {
        return String::new();
    };
    let name = |cell: &String| format!("<th scope=\"col\">{}</th>", escape(cell));
    let head = first.iter().map(name).collect::<Vec<_>>().concat();
    let body: String = rest.iter().map(|row| table_row(row)).collect();
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
        assert!(super::table(&[]).is_empty());
    }
}
