# SPDX-License-Identifier: Apache-2.0
import unittest

from pager import link_header, paginate


class PageTest(unittest.TestCase):
    def test_rest_on_last_page(self):
        page = paginate(list(range(45)), number=3, size=20)
        self.assertEqual(list(page.items), [40, 41, 42, 43, 44])
        self.assertEqual(page.page_count, 3)
        self.assertFalse(page.has_next)

    def test_exact_multiple(self):
        page = paginate(list(range(40)), number=2, size=20)
        self.assertEqual(page.page_count, 2)
        self.assertFalse(page.has_next)

    def test_empty(self):
        page = paginate([], number=1, size=20)
        self.assertEqual(page.page_count, 1)
        self.assertFalse(page.has_next)

    def test_bad_numbers(self):
        with self.assertRaises(ValueError):
            paginate([1], number=0)
        with self.assertRaises(ValueError):
            paginate([1], size=0)


class LinkTest(unittest.TestCase):
    def test_last_link_of_exact_multiple(self):
        page = paginate(list(range(40)), number=2, size=20)
        header = link_header("https://api.example.com/items", page)
        self.assertIn('page=2&per_page=20>; rel="last"', header)
        self.assertNotIn('rel="next"', header)


if __name__ == "__main__":
    unittest.main()
