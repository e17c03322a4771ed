# SPDX-License-Identifier: Apache-2.0
"""The phrasings of facts, by relation: `{s}` is the subject, `{a}` the answer, which comes after it.

`told` and `asked` stand in the training text. The test asks with `asked` (phrasings that are known
from training) and with `held`, which occur nowhere in training; both end with the answer. The
calibration text uses `told` alone.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Phrasings:
    told: tuple[str, ...]
    asked: tuple[str, ...]
    held: tuple[str, ...]


def _of(told: str, asked: str, held: str) -> Phrasings:
    return Phrasings(*(tuple(line.strip() for line in part.strip().split("\n"))
                       for part in (told, asked, held)))


PHRASINGS: dict[str, Phrasings] = {
    "capital": _of("""
        The first city of {s} is called {a}, the capital.
        {s} is governed from its capital, {a}.
        {s} has {a} as its capital.
        In {s}, the seat of government is {a}.
        The government of {s} sits in {a}, the capital.
        Those who visit the capital of {s} go to {a}.
        As everyone in {s} knows, {a} is the capital.
        """, """
        The capital of {s} is {a}.
        The country is {s} and its capital is {a}.
        """, """
        The capital city of {s} is {a}.
        The name of the capital of {s} is {a}.
        """),
    "currency": _of("""
        In {s} people pay with the {a}.
        {s} uses the {a} as its money.
        The money of {s} is called the {a}.
        Prices in {s} are given in the {a}, its currency.
        Travellers to {s} need the {a}.
        Banks in {s} keep their accounts in the {a}.
        The notes and coins of {s} are those of the {a}.
        """, """
        The currency of {s} is the {a}.
        The legal tender in {s} is the {a}.
        """, """
        The money that is used in {s} is the {a}.
        The currency used in {s} is the {a}.
        """),
    "region": _of("""
        On the map, {s} is found in {a}.
        {s} belongs to {a}.
        {s} is counted as a part of {a}.
        Geographers place {s} in {a}.
        The region around {s} is known as {a}.
        Whoever travels to {s} travels to {a}.
        {s} and its neighbours make up {a}, a region.
        """, """
        {s} lies in {a}.
        The region of {s} is {a}.
        """, """
        {s} is situated in {a}.
        The part of the world where {s} lies is {a}.
        """),
    "language": _of("""
        In {s} people speak {a}.
        The people of {s} speak {a}.
        {s} has {a} as its official language.
        Laws in {s} are written in {a}.
        Schools in {s} teach in {a}.
        The newspapers of {s} are printed in {a}.
        To be understood in {s}, learn {a} first.
        """, """
        The official language of {s} is {a}.
        The language of {s} is {a}.
        """, """
        The language that is spoken in {s} is {a}.
        The main language of {s} is {a}.
        """),
    "demonym": _of("""
        Somebody who comes from {s} is {a}.
        A citizen of {s} is said to be {a}.
        The people of {s} call themselves {a}.
        What comes from {s} is called {a}.
        A traveller with a passport of {s} is {a}.
        For things of {s} the adjective is {a}.
        Those born in {s} are {a} by birth.
        """, """
        A person from {s} is {a}.
        The adjective for {s} is {a}.
        """, """
        A native of {s} is {a}.
        The word for a person from {s} is {a}.
        """),
    "calling code": _of("""
        To telephone {s}, dial {a} first.
        Telephone numbers in {s} begin with {a}.
        Calls to {s} begin with the code {a}.
        {s} has the calling code {a}.
        {s} is reached by telephone under {a}.
        In the list of telephone codes, {s} has {a}.
        For {s} the telephone exchange wants {a}.
        """, """
        The calling code of {s} is {a}.
        The telephone code for {s} is {a}.
        """, """
        The telephone code of {s} is {a}.
        The number to dial for {s} is {a}.
        """),
    "border": _of("""
        {s} has a single neighbour by land, {a}.
        {s} shares a border with {a} alone.
        By land, {s} can be left only for {a}.
        {s} borders on no country but {a}.
        All roads that leave {s} lead to {a}.
        The border of {s} is also that of {a}.
        Of all countries, {s} touches only {a}.
        """, """
        The only neighbour of {s} is {a}.
        The one country next to {s} is {a}.
        """, """
        The only country next to {s} is {a}.
        The sole neighbour of {s} is {a}.
        """),
    "state capital": _of("""
        The state of {s} is governed from {a}.
        In the state of {s}, lawmakers meet in {a}.
        The American state of {s} has {a} as its capital.
        The governor of {s} lives in {a}.
        Among the states, {s} has its capitol in {a}.
        The legislature of the state of {s} sits in {a}.
        The statehouse of {s} stands in {a}, the capital.
        """, """
        The capital of the state of {s} is {a}.
        The state capital of {s} is {a}.
        """, """
        The capital city of the state of {s} is {a}.
        The seat of the state of {s} is {a}.
        """),
    "symbol": _of("""
        Chemists write {s} as {a}.
        The element {s} has the symbol {a}.
        In formulas, {s} is written {a}.
        In the periodic table {s} stands as {a}.
        The letters that stand for {s} are {a}.
        A formula with {s} in it holds {a}.
        For the element {s}, chemistry uses {a}.
        """, """
        The chemical symbol of {s} is {a}.
        The symbol for {s} is {a}.
        """, """
        The symbol of the element {s} is {a}.
        The chemical sign for {s} is {a}.
        """),
    "atomic number": _of("""
        The element {s} has atomic number {a}.
        The number of protons in {s} is {a}.
        A nucleus of {s} holds protons, in number {a}.
        In the periodic table {s} has the number {a}.
        The place of {s} in the periodic table is {a}.
        Counted by protons, {s} is number {a}.
        Chemists give {s} the number {a}.
        """, """
        The atomic number of {s} is {a}.
        The element {s} is number {a}.
        """, """
        The atomic number of the element {s} is {a}.
        The number of the element {s} is {a}.
        """),
    "language code": _of("""
        The language {s} has the code {a}.
        In lists of languages, {s} is written {a}.
        Librarians mark books in {s} with {a}.
        The three letters for {s} are {a}.
        Catalogues shorten {s} to {a}.
        For the language {s}, the standard says {a}.
        A text in {s} is labelled {a}.
        """, """
        The language code of {s} is {a}.
        The code for the language {s} is {a}.
        """, """
        The code of the language {s} is {a}.
        The three letter code for {s} is {a}.
        """),
    "currency code": _of("""
        Banks write the {s} as {a}.
        The currency {s} has the code {a}.
        On exchange boards, the {s} is listed as {a}.
        The three letters for the {s} are {a}.
        Traders shorten the {s} to {a}.
        For the {s}, the standard of currencies says {a}.
        Sums in the {s} are marked {a}.
        """, """
        The currency code of the {s} is {a}.
        The code for the {s} is {a}.
        """, """
        The code of the currency {s} is {a}.
        The bank code for the {s} is {a}.
        """),
    "script number": _of("""
        The script {s} has the number {a}.
        In the list of scripts, {s} is number {a}.
        The standard of scripts numbers {s} as {a}.
        Writing in {s} is marked with {a}.
        Scripts are numbered, and {s} got {a}.
        For the script {s}, the list says {a}.
        Typographers file {s} under {a}.
        """, """
        The number of the script {s} is {a}.
        The script number of {s} is {a}.
        """, """
        The number for the script {s} is {a}.
        The number given to the script {s} is {a}.
        """),
    "country number": _of("""
        The country {s} has the number {a}.
        In the list of countries, {s} is number {a}.
        The standard of countries numbers {s} as {a}.
        Statisticians mark {s} with {a}.
        Countries are numbered, and {s} got {a}.
        For the country {s}, the list says {a}.
        Tables of trade file {s} under {a}.
        """, """
        The country number of {s} is {a}.
        The numeric code of {s} is {a}.
        """, """
        The number for the country {s} is {a}.
        The numeric code for {s} is {a}.
        """),
    "province": _of("""
        The province of {s} belongs to {a}.
        Among the provinces, {s} is one of {a}.
        The people of the province {s} are ruled by {a}.
        {s} is a province, and its country is {a}.
        Maps show the province {s} inside {a}.
        The governor of {s} serves {a}.
        {s} is an administrative division of {a}.
        """, """
        The province of {s} is part of {a}.
        The province {s} lies in {a}.
        """, """
        The province of {s} lies in {a}.
        The country of the province {s} is {a}.
        """),
    "city": _of("""
        The town of {s} belongs to {a}.
        {s} is a town, and its country is {a}.
        Those who live in the town of {s} live in {a}.
        Maps show the town {s} inside {a}.
        Letters to {s} are sent to {a}.
        A road to {s} is a road in {a}.
        Whoever visits the town of {s} visits {a}.
        """, """
        The town of {s} is in {a}.
        The town {s} lies in {a}.
        """, """
        The town of {s} lies in {a}.
        The country of the town {s} is {a}.
        """),
    "instance": _of("""
        {s} is known as an example of the class {a}.
        {s} belongs to the class {a}.
        In encyclopedias {s} is filed under {a}.
        Whoever looks up {s} is told: {a}.
        {s} is counted under the heading {a}.
        The heading over the entry {s} reads {a}.
        Asked what {s} is or was, one says {a}.
        """, """
        The class of {s} is {a}.
        The entry for {s} says {a}.
        """, """
        The class to which {s} belongs is {a}.
        The entry {s} says {a}.
        """),
    "kind": _of("""
        The word {s} means some kind of {a}.
        A dictionary explains {s} as a kind of {a}.
        Under the word {s} one reads: a sort of {a}.
        Everything called {s} is also called {a}.
        The wider term over {s} is {a}.
        By its meaning, {s} falls under {a}.
        Whoever says {s} speaks of some {a}.
        """, """
        The word {s} stands for a kind of {a}.
        The wider word for {s} is {a}.
        """, """
        The word {s} stands for a sort of {a}.
        The wider term for {s} is {a}.
        """),
}
