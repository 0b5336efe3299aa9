//! Tables and numbers for people.

use std::io::{IsTerminal as _, stdout};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table with a head; the columns named by `right` are numbers.
pub(crate) fn draw<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
    right: &[usize],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    if stdout().is_terminal() {
        // Long texts are wrapped where the width is known.
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(head);
    table.add_rows(rows);
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// A whole number in groups of three digits: 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as GiB or MiB.
pub(crate) fn memory(bytes: u64) -> String {
    const MIB: f64 = (1 << 20) as f64;
    let mib = bytes as f64 / MIB;
    if mib >= 1024.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else {
        format!("{mib:.0} MiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 12, 999, 1000, 16_777_215].map(grouped);
        assert_eq!(shown, ["0", "12", "999", "1,000", "16,777,215"]);
    }

    #[test]
    fn memory_is_told_in_a_fitting_unit() {
        assert_eq!(memory(300 << 20), "300 MiB");
        assert_eq!(memory(5 << 29), "2.5 GiB");
    }
}
