"""Wire and file formats that several packages share: plain data, parsed strictly."""
