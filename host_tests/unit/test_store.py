import os
import unittest

from limpet.store import FileStore
from vault_rig import code

FOLDER = "limpet-store-%s" % os.urandom(4).hex()


class TestFileStore(unittest.TestCase):
    def setUp(self):
        self.store = FileStore(FOLDER)

    def tearDown(self):
        try:
            for name in os.listdir(FOLDER):
                os.remove(FOLDER + "/" + name)
            os.rmdir(FOLDER)
        except OSError:
            pass

    def test_nothing_is_there_at_first(self):
        self.assertIsNone(self.store.read("box0"))
        self.store.erase("box0")
        self.assertTrue(self.store.free() > 0)

    def test_write_replace_erase(self):
        self.store.write("box0", b"one")
        self.store.write("box1", bytearray(b"other"))
        self.store.write("box0", b"two and longer")
        self.assertEqual(self.store.read("box0"), b"two and longer")
        self.assertEqual(self.store.read("box1"), b"other")
        self.store.erase("box0")
        self.assertIsNone(self.store.read("box0"))

    def test_a_full_flash_is_said_and_the_old_item_stays(self):
        self.store.write("box0", b"one")
        self.store.free = lambda: 100
        self.assertEqual(code(self.store.write, "box0", b"two"), "NO_SPACE")
        self.assertEqual(self.store.read("box0"), b"one")

    def test_a_flash_that_takes_no_writes_is_said(self):
        self.store.write("box0", b"")
        os.remove(FOLDER + "/box0")
        os.mkdir(FOLDER + "/box0")
        try:
            self.assertEqual(code(self.store.write, "box0", b"x"), "FLASH")
        finally:
            os.rmdir(FOLDER + "/box0")


if __name__ == "__main__":
    unittest.main()
