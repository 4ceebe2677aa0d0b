"""What is made of results for others: pictures, pages, files, films."""
