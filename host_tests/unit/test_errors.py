import sys
import unittest

from limpet import words
from limpet.errors import Lost, Refused, forget


class TestErrors(unittest.TestCase):
    def test_a_sentence_with_its_facts(self):
        self.assertEqual(
            str(Lost("DNS", "broker.lan", "no address")),
            "the server's name cannot be looked up (broker.lan, no address)",
        )
        self.assertEqual(Refused("REFUSED", 5).words[-4:], " (5)")

    def test_without_a_sentence_the_facts_speak_and_then_the_code(self):
        self.assertEqual(Lost("STATE", "call begin first").words, "call begin first")
        self.assertEqual(Lost("STATE").words, "STATE")

    def test_a_sentence_is_short_and_no_code_has_two(self):
        self.assertTrue(len(Lost("TLS", "x" * 500).words) <= 200)
        codes = []
        for line in words._WORDS.strip().split("\n"):
            code, _, sentence = line.partition(" ")
            codes.append(code)
            self.assertEqual(Lost(code).words[: len(sentence)], sentence)
            self.assertTrue(0 < len(sentence) <= 140, sentence)
        self.assertEqual(len(set(codes)), len(codes))

    def test_the_sentences_do_not_stay_in_memory(self):
        self.assertTrue(Lost("TLS").words)
        self.assertFalse("limpet.words" in sys.modules)
        self.assertFalse(hasattr(sys.modules["limpet"], "words"))
        forget("words")  # nothing to do
