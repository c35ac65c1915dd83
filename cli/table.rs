//! Tables of text: columns as wide as their widest cell, numbers to the right.

/// Rows of cells below a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. A header that begins with `>` marks a column of numbers.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.header.len(), "a row has a cell for every column");
        self.rows.push(cells);
    }

    /// For a terminal: two blanks between columns.
    pub(crate) fn plain(&self) -> String {
        let widths = self.widths();
        let line = |cells: &[&str]| {
            let padded: Vec<String> = (0..cells.len()).map(|i| self.pad(i, cells[i], widths[i])).collect();
            padded.join("  ").trim_end().to_owned() + "\n"
        };
        let mut text = line(&self.titles());
        text.extend(
            self.rows
                .iter()
                .map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>())),
        );
        text
    }

    /// As a Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let widths = self.widths();
        let line = |cells: &[&str]| {
            let padded: Vec<String> = (0..cells.len()).map(|i| self.pad(i, cells[i], widths[i])).collect();
            format!("| {} |\n", padded.join(" | "))
        };
        let rule = |i: usize| {
            let dashes = "-".repeat(widths[i] - 1);
            if self.is_number(i) { dashes + ":" } else { dashes + "-" }
        };
        let rules: Vec<String> = (0..widths.len()).map(rule).collect();
        let mut text = line(&self.titles());
        text += &format!("| {} |\n", rules.join(" | "));
        text.extend(
            self.rows
                .iter()
                .map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>())),
        );
        text
    }

    fn is_number(&self, column: usize) -> bool {
        self.header[column].starts_with('>')
    }

    fn titles(&self) -> Vec<&'static str> {
        self.header.iter().map(|title| title.trim_start_matches('>')).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let titles = self.titles();
        let width = |i: usize| {
            self.rows
                .iter()
                .map(|row| row[i].chars().count())
                .chain([titles[i].chars().count()])
                .max()
        };
        (0..titles.len()).map(|i| width(i).unwrap_or(0).max(3)).collect()
    }

    fn pad(&self, column: usize, cell: &str, width: usize) -> String {
        if self.is_number(column) {
            format!("{cell:>width$}")
        } else {
            format!("{cell:<width$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", ">n"]);
        table.row(vec!["a".into(), "1".into()]);
        table.row(vec!["longer".into(), "1000".into()]);
        assert_eq!(table.plain(), "name       n\na          1\nlonger  1000\n");
        assert_eq!(
            table.markdown(),
            "| name   |    n |\n| ------ | ---: |\n| a      |    1 |\n| longer | 1000 |\n"
        );
    }
}
