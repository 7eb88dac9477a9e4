"""What the library begins with: the same each time."""

from __future__ import annotations

import random
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone

from .models import Loan, Tool

LIBRARIAN = "librarian"  # and the password too: this is a demo
SHELVES = {
    "Garden": "wheelbarrow, hedge trimmer, spade, garden fork, lawn mower, watering can, pruning saw, leaf rake",
    "Wood": "circular saw, plane, set of chisels, belt sander, mitre box, spokeshave, router, clamps",
    "Walls": "spirit level, plastering trowel, paint roller, wallpaper table, caulking gun, tile cutter",
    "Metal": "angle grinder, bench vice, set of files, rivet gun, tap and die set, welding mask",
    "Boats": "sail needle, bilge pump, hull scraper, splicing fid, varnish brush, oar",
    "Kitchen": "pasta machine, cider press, preserving pan, jam funnel, fish smoker, bread proofer",
}
NEIGHBOURS = (
    *("Ada Brook", "Ben Carr", "Cleo Dunn", "Dev Patel", "Ela Sand", "Finn Moor", "Gus Reed", "Hana Ito"),
    *("Ivo Marsh", "June Holt", "Kofi Mensah", "Lena Voss", "Mo Barker", "Nia Pugh", "Otto Lind", "Pia Rossi"),
)


def load() -> int:
    """Fill an empty library; returns how many rows it has."""
    chance = random.Random(7)
    names = [(shelf, name) for shelf, tools in SHELVES.items() for name in tools.split(", ")]
    Tool.objects.bulk_create(
        [Tool(name=name.capitalize(), shelf=shelf, copies=chance.randint(1, 4)) for shelf, name in names]
    )
    now = timezone.now()
    loans = []
    for tool in Tool.objects.all():
        for _ in range(chance.randint(5, 40)):
            taken = now - timedelta(hours=chance.randint(200, 9000))
            returned = taken + timedelta(hours=chance.randint(2, 190))
            loans.append(Loan(tool=tool, neighbour=chance.choice(NEIGHBOURS), taken=taken, returned=returned))
        for _ in range(chance.randint(0, tool.copies)):
            taken = now - timedelta(hours=chance.randint(1, 190))
            loans.append(Loan(tool=tool, neighbour=chance.choice(NEIGHBOURS), taken=taken))
    Loan.objects.bulk_create(loans, batch_size=500)
    get_user_model().objects.create_superuser(LIBRARIAN, password=LIBRARIAN)
    return Tool.objects.count() + Loan.objects.count()
