"""What is measured, in formulas, and what the numbers cannot tell."""

import streamlit as st

st.title("About")
st.write(
    "Adapt one model π₀ to a new task N by some method. The adapted model π is measured three ways, on the items that "
    "π₀ answered."
)
st.subheader("Gain")
st.latex(r"\text{gain}(N) = \frac{100}{|N|} \sum_{x \in N} \left( r(\pi, x) - r(\pi_0, x) \right)")
st.write("Points on the new task; r is the reward of an answer, 0 to 1.")
st.subheader("Retention")
st.latex(r"\text{retention} = \frac{1}{|P|} \sum_{p \in P} \text{gain}(p)")
st.write("Points, the mean over the prior tasks P, each with the same weight. 0: kept. Negative: forgot.")
st.subheader("Drift")
st.latex(
    r"\begin{gathered} \text{drift} = \frac{1}{|N|} \sum_{x \in N} \mathbb{E}_{y \sim \pi_0(\cdot | x)} \sum_t k_t, \\"
    r"k_t = \mathrm{KL}\left( \pi_0(\cdot | x, y_{<t}) \,\|\, \pi(\cdot | x, y_{<t}) \right) \end{gathered}"
)
st.write(
    "Forward KL on the new task, nats an episode; exact over the alphabet at each element, and only the prefix is "
    "sampled."
)
st.subheader("Front")
st.write(
    "One entry beats another on an axis where the 95 % interval of their paired difference excludes 0. It dominates "
    "where it beats on one axis and is not beaten on the other. Front 1 is what nobody dominates; entries of one front "
    "are tied."
)
st.subheader("The law of forgetting")
st.latex(r"-\,\text{retention} \approx c_0 + c_1 \cdot \text{drift} + c_2 \cdot \text{drift}^2")
st.subheader("Flag: gained more than its drift lets one expect")
st.latex(r"|\text{gain}| \le 100 \sqrt{\text{drift} / 2}")
st.write("Pinsker's inequality, for sampled answers.")
st.subheader("What the numbers cannot tell")
st.markdown(
    """
- **Other items.** Intervals are over items of these tasks, not over tasks that nobody asked.
- **Other seeds.** Item intervals are made from scores averaged over seeds. The spread between seeds stands
  beside them; three seeds say little of it.
- **Other bases.** A track has one base. A method that forgets little there may forget much elsewhere.
- **Small effects.** Where no difference was found there may still be one, below what so many items can detect.
- **Cheating.** Greedy answers are not bound by Pinsker's inequality: an answer at the edge turns over at little
  cost. A flag is a question.
- **Causes.** R² of the law is over the methods and settings that were tried. Left-out R² says how well it foretells
  a method it has not seen, and log(learning rate × steps) what is known without any drift.
- **Untold training data.** Overlap is found for questions that were declared and copied, not for those reworded.
- **Errors.** What could not be scored is left out and counted, and never a zero.
"""
)
